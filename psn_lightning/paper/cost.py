"""Time that the runs of a reproduction take on this machine."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from psn_lightning.paper.record import read
from psn_lightning.paper.recorded_run import RecordedRun, key_of
from psn_lightning.paper.reproduction import Reproduction, cells_of, epochs_of, load, names, plan_for
from psn_lightning.sweeps.launchers import fork_context
from psn_lightning.sweeps.logs import redirect_output
from psn_lightning.sweeps.space import apply_settings, decode_settings
from psn_lightning.sweeps.trials import run_fit
from psn_lightning.tracking.provenance import machine

_BATCHES = 30  # of an epoch that are measured


def print_list() -> None:
    """Print all reproductions: what is done, and how long the rest takes."""
    known, console = read(), Console()
    table = Table("reproduction", "data", "runs", "done", "left, hours", "title")
    for name in names():
        reproduction = load(name)
        for data in reproduction.data:
            cells = cells_of(reproduction, data)
            left = len(cells) - sum(key_of(name, data, cell, seed) in known for cell, seed in cells.values())
            hours = _recall_hours(name, reproduction, data, known, left)
            title = reproduction.title if data == next(iter(reproduction.data)) else ""
            table.add_row(*map(escape, (name, data, str(len(cells)), str(len(cells) - left), hours, title)))
    console.print(table)
    console.print(
        "Hours on this machine with one worker, as the record tells them; --workers 2 on two cores takes about half."
    )


def _recall_hours(name: str, reproduction: Reproduction, data: str, known: Mapping[str, RecordedRun], left: int) -> str:
    """State the hours of the runs that are left; ``?`` without a recorded run on the same data and kind of machine."""
    seconds = recall_run_seconds(name, reproduction, data, known)
    if not left or seconds is not None:
        return f"{left * (seconds or 0) / 3600:.1f}"
    return "?"


def recall_run_seconds(
    name: str, reproduction: Reproduction, data: str, known: Mapping[str, RecordedRun]
) -> float | None:
    """Take the time of a run of a reproduction from the record.

    Its own runs on a machine of this kind count, or else other runs on the same data, by epoch.

    Args:
        name: Name of the reproduction.
        reproduction: Reproduction.
        data: Short name of one of its data sets.
        known: Record of runs.

    Returns:
        Seconds, or None if the record has no such run.
    """
    here = [run for run in known.values() if run.data == data and run.machine == machine()]
    own = [run.seconds for run in here if run.reproduction == name]
    if own:
        return statistics.fmean(own)
    if here:
        return statistics.fmean(run.seconds / run.epochs for run in here) * epochs_of(reproduction, data)
    return None


def estimate_run_seconds(name: str, reproduction: Reproduction, data: str, known: Mapping[str, RecordedRun]) -> float:
    """Estimate the time of a run of a reproduction on this machine.

    The record decides if it can, see :func:`recall_run_seconds`. Otherwise the first cell and the one in the middle
    are measured in a short training.

    Args:
        name: Name of the reproduction.
        reproduction: Reproduction to estimate.
        data: Short name of one of its data sets.
        known: Record of runs.
    """
    seconds = recall_run_seconds(name, reproduction, data, known)
    if seconds is not None:
        return seconds
    plan = plan_for(name, reproduction, data)
    cells = [cell for cell, _ in cells_of(reproduction, data).values()]
    configs = [
        apply_settings(plan.config, decode_settings(cell, plan.space)) for cell in (cells[0], cells[len(cells) // 2])
    ]
    with ProcessPoolExecutor(1, fork_context(), max_tasks_per_child=1) as pool:  # one fit per process
        return statistics.fmean(pool.map(_measure_epoch, configs)) * epochs_of(reproduction, data)


def _measure_epoch(config: dict[str, Any]) -> float:
    """Measure the seconds of an epoch without evaluation: the second of two short ones, once everything is warm."""
    redirect_output(Path(os.devnull))
    config["trainer"] |= {
        "max_epochs": 2,
        "limit_train_batches": _BATCHES,
        "limit_val_batches": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    cli = run_fit(config)
    n_batches = len(cli.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
    return float(cli.trainer.callback_metrics["time/epoch_seconds"]) * n_batches / _BATCHES
