"""Figures of a study: its history, the importance of settings, and the objective over each number that was varied."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import optuna
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial
from optuna.visualization import matplotlib as plots

from psn_lightning.checkpoints.flat import short_names
from psn_lightning.figure_style import styled
from psn_lightning.sweeps.sweep import Range, Space
from psn_lightning.sweeps.tickets import seed_values, trial_value

mpl.use("Agg")

_PLOTS: dict[str, Callable[..., Any]] = {
    "history": plots.plot_optimization_history,
    "slice": plots.plot_slice,
    "importance": plots.plot_param_importances,
}


@styled
def draw_study(study: optuna.Study, complete: Sequence[FrozenTrial], space: Space, objective: str) -> dict[str, Figure]:
    """Draw the figures that the trials so far allow.

    Args:
        study: Study to draw.
        complete: Trials of the study with a result.
        space: Settings that were varied.
        objective: Name of the metric.

    Returns:
        Figures by name.
    """
    figures: dict[str, Figure] = {}
    if not complete:
        return figures
    for name, plot in _PLOTS.items():
        if name == "importance" and len(space) == 1:
            continue  # the importance of the only setting is 1
        with warnings.catch_warnings(), _restore_pyplot():
            warnings.simplefilter("ignore")  # about few trials
            try:
                axes = plot(study)
            except (ValueError, RuntimeError):  # too few trials, or nothing that varies
                continue
        panels = np.atleast_1d(axes)
        for panel in panels:
            panel.set_title("")  # the name of the file
        figures[name] = panels[0].figure
        figures[name].suptitle("")
    for key, values in space.items():
        if isinstance(values, Range):
            figures[f"{short_names(space)[key]}_against_objective"] = draw_against(complete, key, objective)
    return figures


@contextmanager
def _restore_pyplot() -> Iterator[None]:
    """Undo what Optuna's plots change: the style of later figures, and the figures that pyplot keeps open."""
    before = set(plt.get_fignums())
    with mpl.rc_context():
        try:
            yield
        finally:
            for number in set(plt.get_fignums()) - before:
                plt.close(number)


@styled
def draw_against(trials: Sequence[FrozenTrial], key: str, objective: str) -> Figure:
    """Draw the objective over one setting: mean and standard deviation over the seeds of each trial.

    Args:
        trials: Trials with a result.
        key: Name of the setting.
        objective: Name of the metric.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    x = [trial.params[key] for trial in trials]
    runs = [seed_values(trial) for trial in trials]
    several = max(map(len, runs)) > 1
    spread = [float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for values in runs]
    axes.errorbar(
        x, [trial_value(trial) for trial in trials], yerr=spread if several else None, fmt="o", capsize=3, color="C0"
    )
    axes.set_xlabel(key.rsplit(".", 1)[-1])
    seeds = f" (mean and standard deviation of {max(map(len, runs))} seeds)" if several else ""
    axes.set_ylabel(f"{objective}{seeds}")
    axes.grid(alpha=0.3)
    return figure
