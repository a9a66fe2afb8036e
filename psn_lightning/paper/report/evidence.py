"""Runs that decide about a claim: those that the analysis plan asks for, in its looks, or older ones as exploration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from psn_lightning.paper.plan import Plan, PlannedClaim, is_planned
from psn_lightning.paper.report import published
from psn_lightning.paper.report.runs import Runs, name_cell
from psn_lightning.paper.report.verdicts import Claim, Verdict
from psn_lightning.paper.reproduction import cells_of, load

_UNDECIDED = (Verdict.OPEN, Verdict.NOT_RUN)
_SEEDS_OF_ONE_LOOK = 4  # fewer seeds than this are looked at once


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

    @property
    def title(self) -> str:
        """Title of the data set, as the runs have it."""
        return self.runs.dataset() or published.DATA[self.data]

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


def judge(
    plan: Plan, name: str, data: str, runs: Runs, older: str | None, decide: Judge, experiment: str | None = None
) -> Claim:
    """Judge a claim in the looks that the plan allows; without its runs, by older runs as an exploration.

    Args:
        plan: Analysis plan.
        name: Name of the claim.
        data: Short name of the data set.
        runs: All recorded runs.
        older: Reproduction that explores the claim until there are runs of the plan; None if there is none.
        decide: Function that judges one look.
        experiment: Reproduction that decides, where the plan names several.

    Returns:
        Claim with its verdict; of two looks the first one that decides.
    """
    claim = plan.claims[name]
    experiment = experiment or str(claim.experiment)
    found = None
    for evidence in _list_looks(plan, claim, data, runs, experiment):
        found = decide(evidence)
        if found.verdict not in _UNDECIDED:
            return found
    if found is not None:
        return found
    own = Runs(run for run in runs.of(older or experiment, data).all if not is_planned(run))
    words = f"exploratory: {older or experiment}, {len(own)} runs that are older than the plan"
    explored = decide(Evidence(claim, data, own, plan.alpha, plan, words if own else "not run"))
    return replace(explored, verdict=Verdict.NOT_RUN) if not own else explored


def _list_looks(plan: Plan, claim: PlannedClaim, data: str, runs: Runs, experiment: str) -> Iterator[Evidence]:
    """List the looks whose runs are all recorded, the smaller one first."""
    planned = Runs(run for run in runs.of(experiment, data).all if is_planned(run))
    if not planned:
        return
    reproduction = load(experiment)
    seeds, places = reproduction.seeds_of(data), {(name_cell(run.cell), run.seed) for run in planned.all}
    sizes = [len(seeds)] if len(seeds) < _SEEDS_OF_ONE_LOOK else [-(-len(seeds) // 2), len(seeds)]
    for number, size in enumerate(sizes, start=1):
        wanted = set(seeds[:size])
        if all((name_cell(cell), seed) in places for cell, seed in cells_of(reproduction, data) if seed in wanted):
            own = Runs(run for run in planned.all if run.seed in wanted)
            alpha = plan.alpha if len(sizes) == 1 else plan.alpha_of_two
            yield Evidence(claim, data, own, alpha, plan, f"plan, look {number} of {len(sizes)}, {size} seeds")
