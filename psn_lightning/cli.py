"""``psn-train``: fit, validate, test and predict on LightningCLI; topology and data beside them."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from psn_lightning import __version__
from psn_lightning.callbacks import (
    BestAndLast,
    EpochTimer,
    EquilibriumMonitor,
    GradientRatio,
    MaskReapply,
    TopologyLogger,
)
from psn_lightning.callbacks.predictions import PredictionTable
from psn_lightning.commands import data, summary, topology
from psn_lightning.data import ClassificationData
from psn_lightning.errors import SettingError
from psn_lightning.task import SparseClassifier
from psn_lightning.tracking import ConfigRecord, RunRecord, Tracking

HELP = f"""psn-train {__version__}: Profiled Sparse Networks on PyTorch Lightning, tracked in MLflow

  psn-train fit --config conf/fashion_rigl.yaml     train; later --config files and --key value win
  psn-train validate|test|predict --config … --ckpt_path …
  psn-train topology --config …                     fan-in table and figure, no training
  psn-train data [NAME …] [--download]              data sets on this machine

  psn-train fit --help                              every setting
  psn-train fit --config … --print_config           the resolved configuration
  --debug with any command shows the traceback of an error
"""

__all__ = ["entry_point", "main"]

_CHECKPOINT_WORDS = ("best", "last", "hpc", "registry")  # Lightning's own names for a checkpoint
_TOLD = (SettingError, ArgumentError, MisconfigurationException)  # errors whose message is meant for the user


class PSNCLI(LightningCLI):
    """LightningCLI with our model, our data, our logger, and the callbacks that every run has."""

    def __init__(self, args: Sequence[str], run: bool = True) -> None:
        self._trains = run
        topology_logger, equilibrium, checkpoints = TopologyLogger(), EquilibriumMonitor(), BestAndLast()
        super().__init__(
            SparseClassifier,
            ClassificationData,
            subclass_mode_data=True,
            save_config_callback=ConfigRecord,
            seed_everything_default=42,
            auto_configure_optimizers=False,
            parser_kwargs={"exit_on_error": False} | {name: {"exit_on_error": False} for name in self.subcommands()},
            trainer_defaults={
                "num_sanity_val_steps": 0,
                "callbacks": [
                    MaskReapply(),
                    GradientRatio(),
                    topology_logger,
                    equilibrium,
                    EpochTimer(),
                    checkpoints,
                    RunRecord(topology_logger, equilibrium, checkpoints),
                ],
            },
            args=list(args),
            run=run,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Tracking and predictions as groups of their own; the model learns its shape from the data."""
        parser.add_class_arguments(Tracking, "tracking", instantiate=False)
        parser.add_lightning_class_args(PredictionTable, "predictions")
        parser.set_defaults({"model.topology": {"class_path": "Uniform"}})
        if not self._trains:
            parser.add_argument("--figure", type=str, default="topology.png", help="where the figure goes")
            for key in ("ckpt_path", "weights_only"):
                parser.add_argument(f"--{key}", help="not used here; lets a run's own config.yaml be given")
        parser.link_arguments("seed_everything", "model.seed")
        for attribute in ("n_features", "n_classes", "evaluation_split"):
            parser.link_arguments(f"data.{attribute}", f"model.{attribute}", apply_on="instantiate")

    def _set_seed(self) -> None:
        """Refuse what Lightning would only partly name."""
        seed = self._get(self.config, "seed_everything")
        if isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise SettingError(f"seed_everything {seed} must be an integer from 0 to {2**32 - 1}")
        super()._set_seed()

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse without Lightning's warning about ``sys.argv``: ours are the same."""
        self.config = parser.parse_args(cast(Sequence[str], args))

    def _parse_ckpt_path(self) -> None:
        """Keep a checkpoint's hyper-parameters from overriding the configuration silently."""

    def before_instantiate_classes(self) -> None:
        """Refuse a checkpoint that is not there, and evaluation of weights that nobody trained."""
        if self.subcommand is None:
            return
        path = self._get(self.config, "ckpt_path")
        if path is None and self.subcommand != "fit":
            raise SettingError(f"{self.subcommand} needs a trained network: give --ckpt_path …/last.ckpt")
        if path is not None and path not in _CHECKPOINT_WORDS and not Path(path).is_file():
            raise SettingError(f"--ckpt_path {path} is no file; a run keeps its own under artifacts, checkpoints")

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer with our logger and callbacks, less what the configuration turns off."""
        trainer = self._get(self.config_init, "trainer")
        logger = trainer.get("logger")
        if not (logger is None or isinstance(logger, bool)):
            raise SettingError("trainer.logger must be true or false: runs are logged to MLflow, see tracking")
        if trainer.get("enable_checkpointing") is False:
            callbacks = self.trainer_defaults["callbacks"]
            self.trainer_defaults["callbacks"] = [c for c in callbacks if not isinstance(c, BestAndLast)]
        records = logger is not False and self.subcommand in {"fit", "validate", "test"}
        kwargs["logger"] = Tracking(**self._get(self.config_init, "tracking")) if records else False
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, RuntimeError) as error:  # an unknown accelerator, a callback twice
            raise SettingError(f"trainer: {_compact(error)}") from error

    def after_fit(self) -> None:
        """Touch the test set once where a validation split was used, then sum up."""
        metrics = dict(self.trainer.callback_metrics)
        if self.model.evaluation_split == "val":
            self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
            metrics |= self.trainer.callback_metrics
        if self.trainer.is_global_zero:
            summary.show(metrics, self.trainer.logger)


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: What follows ``psn-train``.

    Returns:
        Exit code: 0, or 2 after an error of the user's, which is told in a line or two on stderr.
    """
    arguments = list(arguments)
    debug = "--debug" in arguments
    if debug:
        arguments.remove("--debug")
    try:
        _dispatch(arguments)
    except (ValueError, *_TOLD) as error:
        told = _compact(error) if isinstance(error, _TOLD) else _buried(error)
        if debug or told is None:
            raise
        sys.stderr.write(f"psn-train: {told}\n")
        return 2
    return 0


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in {"-h", "--help"}:
        sys.stdout.write(HELP)
    elif arguments[0] == "data":
        data.run(arguments[1:])
    elif arguments[0] == "topology":
        cli = PSNCLI(arguments[1:], run=False)
        topology.show(cli.model, cli.config["figure"])
    elif arguments[0] in PSNCLI.subcommands() or arguments[0].startswith("-"):
        PSNCLI(arguments)
    else:
        raise SettingError(f"{arguments[0]!r} is not a command; see psn-train --help")


def _buried(error: Exception) -> str | None:
    """Our message inside a report of the parser's; None where there is none."""
    return SettingError.latest if SettingError.latest and SettingError.latest in str(error) else None


def _compact(error: Exception) -> str:
    """An error as at most two lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "\n  ".join(lines[:1] + ([" ".join(lines[1:])[:300]] if lines[1:] else []))


def entry_point() -> None:
    """What the installed command calls."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")  # Lightning's own, on recent torch
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "litlogger" not in r.getMessage())
    sys.exit(main(sys.argv[1:]))
