"""Average ranks of methods over sparsities and seeds, with critical differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from psn_lightning.figure_style import styled
from psn_lightning.paper.report.axes import make_axes
from psn_lightning.paper.report.methods import DENSE, METHOD, SPARSITY
from psn_lightning.paper.report.runs import Runs, late_accuracy
from psn_lightning.paper.report.tables import LEVEL, Table
from psn_lightning.paper.report.verdicts import number, p_value

_SHARE = 0.75  # of the methods that a block needs, so that one that is being run does not remove all the others


@dataclass(frozen=True)
class AverageRanks:
    """Mean ranks over the blocks, sparsity and seed, that the methods have in common (Demšar, 2006)."""

    ranks: Mapping[str, float]
    """Mean rank by method, the best first."""
    blocks: int
    """Number of blocks."""
    sparsities: list[float]
    """Sparsities of the blocks."""
    p: float
    """Friedman's test of the hypothesis that all methods are equal."""
    critical_difference: float
    """Difference of two mean ranks that Nemenyi's test finds at the level of the tables."""
    missing: list[str]
    """Methods that lack a block."""


def average_ranks(runs: Runs) -> AverageRanks | None:
    """Rank the sparse methods in every block; ties share their ranks.

    Args:
        runs: Runs of the comparison on one data set.

    Returns:
        Mean ranks; None for fewer than three methods or two blocks in common.
    """
    sparse = [run for run in runs.all if run.cell[METHOD] != DENSE]
    blocks: dict[tuple[float, int], dict[str, float]] = {}
    for run in sparse:
        blocks.setdefault((run.cell[SPARSITY], run.seed), {})[run.cell[METHOD]] = late_accuracy(run)
    every = list(dict.fromkeys(run.cell[METHOD] for run in sparse))
    most = max(map(len, blocks.values()), default=0)
    full = {place: block for place, block in blocks.items() if len(block) >= _SHARE * most}
    methods = [method for method in every if all(method in block for block in full.values())]
    if len(methods) < 3 or len(full) < 2:
        return None
    values = np.array([[block[method] for method in methods] for block in full.values()])
    mean = stats.rankdata(-values, axis=1).mean(axis=0)
    order = np.argsort(mean, kind="stable")
    k, n = len(methods), len(full)
    quantile = float(stats.studentized_range.ppf(1 - LEVEL, k, math.inf)) / math.sqrt(2)
    return AverageRanks(
        ranks={methods[i]: float(mean[i]) for i in order},
        blocks=n,
        sparsities=sorted({sparsity for sparsity, _ in full}),
        p=float(stats.friedmanchisquare(*values.T).pvalue),
        critical_difference=quantile * math.sqrt(k * (k + 1) / (6 * n)),
        missing=[method for method in every if method not in methods],
    )


def rank_table(found: AverageRanks, title: str) -> Table:
    """Make the table of mean ranks.

    Args:
        found: Mean ranks.
        title: Title of the data set.
    """
    best = next(iter(found.ranks.values()))
    rows = [
        [method, number(rank), "yes" if rank - best <= found.critical_difference else "no"]
        for method, rank in found.ranks.items()
    ]
    places = ", ".join(f"{sparsity:.0%}" for sparsity in found.sparsities)
    note = (
        f"{found.blocks} blocks: each seed at {places}. Friedman's test: p {p_value(found.p)}; two methods differ if "
        f"their mean ranks are {number(found.critical_difference)} apart (Nemenyi, 5%, for these "
        "sparsities: blocks of one sparsity are not independent)."
    )
    if found.missing:
        note += f" Without a run in some block, and so not ranked: {', '.join(found.missing)}."
    return Table(
        f"Average ranks: {title}", note, ["method", "mean rank", "within the critical difference of the best"], rows
    )


@styled
def rank_figure(found: AverageRanks) -> Figure:
    """Draw the mean ranks with bars of the critical difference: methods whose bars overlap are not told apart.

    Args:
        found: Mean ranks.
    """
    figure, (axis,) = make_axes(1, 7, 0.28 * len(found.ranks) + 1.2)
    places = range(len(found.ranks))
    axis.errorbar(list(found.ranks.values()), places, xerr=found.critical_difference / 2, fmt="o", capsize=3)
    axis.set_yticks(places, list(found.ranks), fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel(f"mean rank over {found.blocks} blocks; bars that overlap: not told apart")
    return figure
