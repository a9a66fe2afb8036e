"""Runs that decide about a claim: those that the analysis plan asks for, in its looks, or older ones as exploration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from psn_lightning.paper.plan import Plan, PlannedClaim, is_planned
from psn_lightning.paper.report import published
from psn_lightning.paper.report.layout import Layout
from psn_lightning.paper.report.looks import complete_looks, count_left
from psn_lightning.paper.report.runs import (
    Measure,
    Runs,
    accuracy,
    best_accuracy,
    half_accuracy,
    last_accuracy,
)
from psn_lightning.paper.report.verdicts import Claim, Verdict, correct_family

_UNDECIDED = (Verdict.OPEN, Verdict.NOT_RUN)


@dataclass(frozen=True)
class Analysis:
    """Estimator and noise of an analysis."""

    name: str
    """Name in tables."""
    measure: Measure
    """Accuracy of a run."""
    pooled: bool
    """Whether the noise is pooled over all cells of an experiment."""


PLANNED = Analysis("last third, pooled", accuracy, True)
"""The analysis of the plan."""

ALTERNATIVES = (
    Analysis("last third, paired", accuracy, False),
    Analysis("last half, pooled", half_accuracy, True),
    Analysis("last epoch, pooled", last_accuracy, True),
    Analysis("last epoch, paired", last_accuracy, False),
    Analysis("best epoch, pooled", best_accuracy, True),
)
"""Other analyses, which show how far a verdict hangs on the choice."""


@dataclass(frozen=True)
class Evidence:
    """Runs of one experiment on one data set, and the level at which they are judged."""

    claim: PlannedClaim
    """Claim to judge."""
    data: str
    """Short name of the data set."""
    runs: Runs
    """Runs that count."""
    alpha: float
    """Level of the tests, and 1 - confidence of the intervals."""
    plan: Plan
    """Analysis plan."""
    basis: str
    """Description of the runs."""
    analysis: Analysis
    """Estimator and noise."""
    look: int = 0
    """Number of the look; 0 for an exploration."""

    def layout(self, key: str | None = None, runs: Runs | None = None) -> Layout:
        """Fit the additive model to the accuracy of these runs, or of some of them.

        Args:
            key: Setting that names the cells, see :meth:`Runs.layout`.
            runs: Runs to fit; all by default.
        """
        own = self.runs if runs is None else runs
        return own.layout(key, self.analysis.measure, self.analysis.pooled)

    @property
    def title(self) -> str:
        """Title of the data set, as the runs have it."""
        return self.runs.dataset() or published.DATA.get(self.data, self.data)

    def margin(self, name: str) -> float:
        """Margin of the plan."""
        return self.plan.margins[name]

    def undecided(self, needed: str, title: str | None = None) -> Claim:
        """Make a claim for which these runs are too few.

        Args:
            needed: Runs that are needed, in words.
            title: Statement of the paper; that of the plan by default.
        """
        words = f"too few runs: {needed}"
        return Claim(title or self.claim.claim, self.title, Verdict.NOT_RUN, words, basis=self.basis)


Judge = Callable[[Evidence], Claim]


@dataclass(frozen=True)
class Assessment:
    """Everything that claims are judged by."""

    plan: Plan
    """Analysis plan."""
    runs: Runs
    """All recorded runs."""
    analysis: Analysis = PLANNED
    """Estimator and noise."""

    def judge(self, name: str, data: str, older: str | None, decide: Judge, experiment: str | None = None) -> Claim:
        """Judge a claim in the looks that the plan allows; without its runs, by older runs as an exploration.

        Args:
            name: Name of the claim in the plan.
            data: Short name of the data set.
            older: Reproduction that explores the claim until there are runs of the plan; None if there is none.
            decide: Function that judges one look.
            experiment: Reproduction that decides, where the plan names several.

        Returns:
            Claim with its verdict; of two looks the first one that decides.
        """
        judged = self._judge_looks(name, data, older, decide, experiment)
        return next((found for found in judged if found.verdict not in _UNDECIDED), judged[-1])

    def judge_family(
        self, name: str, older: Mapping[str, str | None], decide: Judge, experiment: str | None = None
    ) -> list[Claim]:
        """Judge a claim on several data sets, with its directions corrected by Holm's method.

        All are judged in their first look. What the correction leaves open is looked at again if it has a second look,
        and corrected with what the others have come to, until nothing changes. What is decided stays decided.

        Args:
            name: Name of the claim in the plan.
            older: Reproduction that explores the claim, or None, by data set.
            decide: Function that judges one look.
            experiment: Reproduction that decides, where the plan names several.

        Returns:
            A claim for each data set.
        """
        judged = [self._judge_looks(name, data, before, decide, experiment) for data, before in older.items()]
        place, decided = [0] * len(judged), [Verdict.OPEN] * len(judged)
        while True:
            current = [own[i] for own, i in zip(judged, place, strict=True)]
            corrected = correct_family(current, self.plan.alpha)
            decided = [new.verdict if old in _UNDECIDED else old for old, new in zip(decided, corrected, strict=True)]
            again = [i for i, own in enumerate(judged) if decided[i] in _UNDECIDED and place[i] + 1 < len(own)]
            if not again:
                return [replace(found, verdict=verdict) for found, verdict in zip(corrected, decided, strict=True)]
            for i in again:
                place[i] += 1

    def _judge_looks(
        self, name: str, data: str, older: str | None, decide: Judge, experiment: str | None
    ) -> list[Claim]:
        """Judge a claim in each of its looks, or once by older runs."""
        experiment = experiment or str(self.plan.claims[name].experiment)
        looks = self.find_evidence(name, data, experiment, older)
        left = count_left(self.runs.of(experiment, data), experiment, data)
        decider = f"{experiment} --data {data}"
        found = [replace(decide(evidence), name=name, reproduction=decider, left=left) for evidence in looks]
        return found if looks[0].runs else [replace(found[0], verdict=Verdict.NOT_RUN)]

    def find_evidence(self, name: str, data: str, experiment: str, older: str | None = None) -> list[Evidence]:
        """List the looks of a claim, or the older runs that explore it, of which there may be none.

        Args:
            name: Name of the claim in the plan.
            data: Short name of the data set.
            experiment: Reproduction that decides.
            older: Reproduction that explores; the same by default.
        """
        explored = self.plan.claims[name], data, older or experiment, experiment
        return self.looks(name, data, experiment) or [self._explore(*explored)]

    def looks(self, name: str, data: str, experiment: str) -> list[Evidence]:
        """List the looks whose runs are all recorded, the smaller one first.

        Args:
            name: Name of the claim in the plan.
            data: Short name of the data set.
            experiment: Reproduction that decides.
        """
        planned = Runs(run for run in self.runs.of(experiment, data).all if is_planned(run))
        if not planned:
            return []
        return [
            Evidence(
                self.plan.claims[name],
                data,
                Runs(run for run in planned.all if run.seed in seeds),
                self.plan.alpha if of == 1 else self.plan.alpha_of_two,
                self.plan,
                f"plan, look {number} of {of}, {len(seeds)} seeds",
                self.analysis,
                number,
            )
            for number, of, seeds in complete_looks(planned, experiment, data)
        ]

    def _explore(self, claim: PlannedClaim, data: str, before: str, experiment: str) -> Evidence:
        """Take the runs that are older than the plan.

        Where the plan's seeds are those of older runs, which are not run again, no look is ever complete: all runs of
        the experiment explore then.
        """
        every = self.runs.of(before, data)
        own = Runs(run for run in every.all if not is_planned(run))
        words = f"exploratory: {before}, {len(own)} runs that are older than the plan" if own else "not run"
        if 0 < len(own) < len(every) and before == experiment and complete_looks(every, experiment, data):
            own, words = every, f"exploratory: {before}, {len(every)} runs, {len(own)} of them older than the plan"
        planned = {run.key for run in self.runs.of(experiment, data).all if is_planned(run)}
        if waiting := planned - {run.key for run in own.all}:
            words += f"; {len(waiting)} runs under the plan, whose look is not complete"
        return Evidence(claim, data, own, self.plan.alpha, self.plan, words, self.analysis)
