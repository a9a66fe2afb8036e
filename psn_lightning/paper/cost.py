"""How long the runs of a reproduction take on this machine."""

from __future__ import annotations

import logging
import os
import statistics
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from psn_lightning.paper.record import RecordedRun
from psn_lightning.paper.reproduction import Reproduction, cells_of, epochs_of, plan_for
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.space import settings_of, with_settings
from psn_lightning.sweeps.trials import fitted
from psn_lightning.tracking.provenance import machine

_BATCHES = 30  # of an epoch that are measured


def seconds_of_a_run(name: str, reproduction: Reproduction, data: str, known: Mapping[str, RecordedRun]) -> float:
    """What a run of a reproduction takes on this machine.

    Known of the same runs on a machine of its kind; else of others on the same data, by epoch; else measured in
    a short training of the first cell and the one in the middle.

    Args:
        name: Of the reproduction.
        reproduction: The same.
        data: One of its data sets.
        known: The record.
    """
    here = [run for run in known.values() if run.data == data and run.machine == machine()]
    own = [run.seconds for run in here if run.reproduction == name]
    if own:
        return statistics.fmean(own)
    epochs = epochs_of(reproduction, data)
    if here:
        return statistics.fmean(run.seconds / len(run.curves["test/accuracy"]) for run in here) * epochs
    plan = plan_for(name, reproduction, data)
    cells = [cell for cell, _ in cells_of(reproduction, data)]
    some = [settings_of(cell, plan.space) for cell in (cells[0], cells[len(cells) // 2])]
    return statistics.fmean(_epoch(plan, settings) for settings in some) * epochs


def _epoch(plan: Plan, settings: Mapping[str, Any]) -> float:
    """Seconds of an epoch without evaluation, from the second of two short ones: the first compiles and warms up."""
    config = with_settings(plan.config, settings)
    config["trainer"] |= {
        "max_epochs": 2,
        "limit_train_batches": _BATCHES,
        "limit_val_batches": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            cli = fitted(config)
    finally:
        logging.disable(logging.NOTSET)
    n_batches = len(cli.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
    return float(cli.trainer.callback_metrics["time/epoch_seconds"]) * n_batches / _BATCHES
