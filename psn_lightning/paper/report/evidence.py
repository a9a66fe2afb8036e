"""Runs that decide about a claim: those that the analysis plan asks for, in its looks, or older ones as exploration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from psn_lightning.paper.plan import Plan, PlannedClaim, is_planned
from psn_lightning.paper.report import published
from psn_lightning.paper.report.layout import Layout
from psn_lightning.paper.report.runs import (
    Measure,
    Runs,
    accuracy,
    best_accuracy,
    half_accuracy,
    last_accuracy,
    name_cell,
)
from psn_lightning.paper.report.verdicts import Claim, Verdict
from psn_lightning.paper.reproduction import cells_of, load

_UNDECIDED = (Verdict.OPEN, Verdict.NOT_RUN)
_SEEDS_OF_ONE_LOOK = 4  # fewer seeds than this are looked at once


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
        return replace(self._judge(name, data, older, decide, experiment), name=name)

    def _judge(self, name: str, data: str, older: str | None, decide: Judge, experiment: str | None) -> Claim:
        claim = self.plan.claims[name]
        experiment = experiment or str(claim.experiment)
        found = None
        for evidence in self._list_looks(claim, data, experiment):
            found = decide(evidence)
            if found.verdict not in _UNDECIDED:
                return found
        if found is not None:
            return found
        before = older or experiment
        own = Runs(run for run in self.runs.of(before, data).all if not is_planned(run))
        words = f"exploratory: {before}, {len(own)} runs that are older than the plan" if own else "not run"
        explored = decide(Evidence(claim, data, own, self.plan.alpha, self.plan, words, self.analysis))
        return explored if own else replace(explored, verdict=Verdict.NOT_RUN)

    def _list_looks(self, claim: PlannedClaim, data: str, experiment: str) -> Iterator[Evidence]:
        """List the looks whose runs are all recorded, the smaller one first."""
        planned = Runs(run for run in self.runs.of(experiment, data).all if is_planned(run))
        if not planned:
            return
        reproduction = load(experiment)
        seeds, places = reproduction.seeds_of(data), {(name_cell(run.cell), run.seed) for run in planned.all}
        sizes = [len(seeds)] if len(seeds) < _SEEDS_OF_ONE_LOOK else [-(-len(seeds) // 2), len(seeds)]
        for number, size in enumerate(sizes, start=1):
            wanted = set(seeds[:size])
            cells = cells_of(reproduction, data).values()
            if all((name_cell(cell), seed) in places for cell, seed in cells if seed in wanted):
                own = Runs(run for run in planned.all if run.seed in wanted)
                alpha = self.plan.alpha if len(sizes) == 1 else self.plan.alpha_of_two
                words = f"plan, look {number} of {len(sizes)}, {size} seeds"
                yield Evidence(claim, data, own, alpha, self.plan, words, self.analysis)
