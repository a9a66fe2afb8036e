"""Looks of the analysis plan: which runs of an experiment decide, and when."""

from __future__ import annotations

from psn_lightning.paper.plan import is_planned
from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report.runs import Runs, name_cell
from psn_lightning.paper.reproduction import Reproduction, cells_of, load, names

_SEEDS_OF_ONE_LOOK = 4  # fewer seeds than this are looked at once


def select_deciding(runs: Runs) -> Runs:
    """Select the runs that decide: of an experiment on a data set the plan's once a look is complete, else older ones.

    Args:
        runs: Recorded runs.
    """
    groups: dict[tuple[str, str], list[RecordedRun]] = {}
    for run in runs.all:
        groups.setdefault((run.reproduction, run.data), []).append(run)
    found: list[RecordedRun] = []
    for (experiment, data), every in groups.items():
        older, planned = (Runs(run for run in every if is_planned(run) is by_plan) for by_plan in (False, True))
        if not older or not planned:
            found += every
        elif complete_looks(planned, experiment, data):
            found += planned.all
        else:
            found += every if complete_looks(Runs(every), experiment, data) else older.all
    return Runs(found)


def count_left(runs: Runs, experiment: str, data: str) -> int:
    """Count the runs of an experiment on a data set that are not recorded.

    Args:
        runs: Recorded runs of the experiment on the data set.
        experiment: Reproduction.
        data: Short name of the data set.

    Returns:
        Number of runs; 0 if this checkout has no such experiment, or the experiment no such data set.
    """
    reproduction = _find(experiment, data)
    if reproduction is None:
        return 0
    done = _places(runs)
    return sum((name_cell(cell), seed) not in done for cell, seed in cells_of(reproduction, data).values())


def complete_looks(runs: Runs, experiment: str, data: str) -> list[tuple[int, int, set[int]]]:
    """List the looks at an experiment whose runs are all there: number, of how many, seeds.

    Args:
        runs: Runs of the experiment on the data set.
        experiment: Reproduction.
        data: Short name of the data set.

    Returns:
        Looks in order; none if the record knows an experiment, or a data set of it, that this checkout does not have.
    """
    reproduction = _find(experiment, data)
    if reproduction is None:
        return []
    seeds, places = reproduction.seeds_of(data), _places(runs)
    sizes = [len(seeds)] if len(seeds) < _SEEDS_OF_ONE_LOOK else [-(-len(seeds) // 2), len(seeds)]
    cells = cells_of(reproduction, data).values()
    return [
        (number, len(sizes), set(seeds[:size]))
        for number, size in enumerate(sizes, start=1)
        if all((name_cell(cell), seed) in places for cell, seed in cells if seed in set(seeds[:size]))
    ]


def _find(experiment: str, data: str) -> Reproduction | None:
    """Find an experiment; None if this checkout has no such experiment, or the experiment no such data set."""
    reproduction = load(experiment) if experiment in names() else None
    return reproduction if reproduction is not None and data in reproduction.data else None


def _places(runs: Runs) -> set[tuple[str, int]]:
    """List cell and seed of each run."""
    return {(name_cell(run.cell), run.seed) for run in runs.all}
