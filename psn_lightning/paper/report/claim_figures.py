"""Figures over all claims: their effects on one axis, and the noise of single evaluations."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure
from scipy import stats

from psn_lightning.figure_style import styled
from psn_lightning.paper.report.runs import ESTIMATORS, Runs, curve
from psn_lightning.paper.report.verdicts import Claim, Verdict

_COLOURS = {
    Verdict.REPRODUCED: "#116329",
    Verdict.NOT_REPRODUCED: "#a40e26",
    Verdict.REVERSED: "#a40e26",
    Verdict.CONTRADICTED: "#7d4e00",
}
_WIDTH = 72  # characters of a line of a claim


@styled
def effects_figure(claims: Sequence[Claim]) -> Figure | None:
    """Draw the effect of every claim that is about a difference of accuracies, ours and the printed one.

    Args:
        claims: Claims with their verdicts.

    Returns:
        Figure; None if no claim has an effect.
    """
    shown = [claim for claim in claims if claim.effect is not None and claim.of_accuracy]
    if not shown:
        return None
    figure = Figure(figsize=(10, 0.56 * len(shown) + 1), layout="constrained")
    axis = figure.subplots()
    for row, claim in enumerate(shown):
        effect = claim.effect
        assert effect is not None
        colour = _COLOURS.get(claim.verdict, "grey")
        low, high = effect.contrast.interval(effect.alpha)
        place = effect.contrast.difference
        marker = "o" if claim.basis.startswith("plan") else "s"
        if effect.margin:
            axis.fill_between(
                [-effect.margin, effect.margin], row - 0.4, row + 0.4, color="C2", alpha=0.15, linewidth=0
            )
        axis.errorbar(place, row, xerr=[[place - low], [high - place]], fmt=marker, color=colour, capsize=3)
        if effect.printed is not None:
            reach = float(stats.norm.ppf(0.975)) * effect.printed_error
            axis.errorbar(effect.printed, row + 0.22, xerr=reach, fmt="D", color="black", markersize=4, alpha=0.7)
    labels = [textwrap.fill(f"{claim.title}: {claim.data}", _WIDTH) for claim in shown]
    axis.set_yticks(range(len(shown)), labels, fontsize=6.5)
    axis.axvline(0, color="grey", linewidth=1)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.grid(axis="x", alpha=0.3)
    axis.set_xlabel("difference, points of accuracy\ndiamond: the paper; green: margin; square: older than the plan")
    return figure


@styled
def noise_figure(runs: Runs) -> Figure | None:
    """Draw the noise between seeds by estimator, and how far one epoch of a run lies from the next.

    Args:
        runs: Recorded runs.

    Returns:
        Figure; None if no experiment has two cells with two seeds.
    """
    rows: list[tuple[str, list[float], float]] = []
    names = dict.fromkeys((run.reproduction, run.data) for run in runs.all)
    for reproduction, data in names:
        own = runs.of(reproduction, data)
        if own.layout().df < 4 or min(run.epochs for run in own.all) < 5:
            continue
        noise = [own.layout(measure=measure).residual_std for measure in ESTIMATORS.values()]
        tails = [curve(run)[-(-run.epochs // 2) :] for run in own.all]
        steps = [statistics.stdev(tail) for tail in tails if len(tail) > 1]
        rows.append((f"{reproduction}, {data}", noise, statistics.fmean(steps)))
    if not rows:
        return None
    figure = Figure(figsize=(8, 0.3 * len(rows) + 1.2), layout="constrained")
    axis = figure.subplots()
    for i, name in enumerate(ESTIMATORS):
        axis.plot([noise[i] for _, noise, _ in rows], range(len(rows)), "o", label=name, alpha=0.8)
    axis.plot([step for *_, step in rows], range(len(rows)), "k|", markersize=10, label="epoch to epoch, within a run")
    axis.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8)
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    axis.set(xlabel="standard deviation, points of accuracy", xlim=(0, None))
    axis.legend(fontsize="x-small")
    return figure
