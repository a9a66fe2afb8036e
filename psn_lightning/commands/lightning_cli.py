"""LightningCLI with the logger and the callbacks that every run has, for our model or any LightningModule."""

from __future__ import annotations

import traceback
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.model_helpers import is_overridden

from psn_lightning.callbacks import LastEvaluation
from psn_lightning.callbacks.ranks import refuse_sharding
from psn_lightning.checkpoints import DurableIO, ReplayOrder
from psn_lightning.commands.config_files import check_configs
from psn_lightning.commands.instantiators import carried_errors, carry_errors
from psn_lightning.commands.messages import parser_error
from psn_lightning.commands.mlflow_models import log_model
from psn_lightning.commands.models import ChosenModel
from psn_lightning.commands.run_arguments import add_figure_arguments, add_run_arguments, link_model
from psn_lightning.commands.run_record import ConfigRecord
from psn_lightning.commands.starting_point import StartingPoint, check_optimizer, load_weights
from psn_lightning.commands.storage_choice import choose_storage
from psn_lightning.commands.summary import show_summary
from psn_lightning.commands.trainer import ask_for_accelerators_once, check_trainer, furnish, skip_empty_hooks
from psn_lightning.data import ClassificationData
from psn_lightning.errors import SettingError, compact
from psn_lightning.task import SparseClassifier
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.store import STAGE_TAG


class PSNCLI(LightningCLI):
    """LightningCLI with our logger and the callbacks that every run has, for our model or any LightningModule.

    Our model's settings stand flat (``--model.sparsity 0.9``); another model is named by its class path
    (``--model my_code.MyModel``), and its data by a LightningDataModule's, or not at all.

    Args:
        args: Subcommand and settings, as on the command line.
        run: Whether to run the subcommand; else there is none, and only the objects are made.
        callbacks: Further ones, before all others.
        sees_test_set: Whether a fit on a validation split ends with one look at the test set.
    """

    def __init__(
        self,
        args: Sequence[str],
        run: bool = True,
        callbacks: Sequence[pl.Callback] = (),
        sees_test_set: bool = True,
    ) -> None:
        self._command = args[0] if run else None
        self._further = callbacks
        self._sees_test_set = sees_test_set
        self._evaluation = LastEvaluation()
        self._start = StartingPoint(None, {})
        check_configs(args)
        self._chosen = ChosenModel.find(args)
        ask_for_accelerators_once()
        super().__init__(
            SparseClassifier if self._chosen.is_flat else pl.LightningModule,
            pl.LightningDataModule if self._chosen.is_flat else None,
            subclass_mode_model=not self._chosen.is_flat,
            subclass_mode_data=True,
            save_config_callback=ConfigRecord,
            seed_everything_default=42,
            auto_configure_optimizers=not self._chosen.is_ours,
            parser_kwargs={"exit_on_error": False} | {name: {"exit_on_error": False} for name in self.subcommands()},
            trainer_defaults={
                "num_sanity_val_steps": 0,
                "devices": 1,  # Lightning's "auto" is every GPU: another global batch and fewer steps, without a word
            },
            args=list(args),
            run=run,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The subcommand that runs alone: a parser for each of the others would take as long to make."""
        every = LightningCLI.subcommands()
        return {self._command: every[self._command]} if self._command else every

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Tracking and predictions as groups of their own; the model learns its shape from the data."""
        add_run_arguments(parser)
        if self._chosen.is_flat:
            parser.set_defaults({"model.topology": {"class_path": "Uniform"}})
        if self._command is None:
            add_figure_arguments(parser)
        if self._chosen.is_ours:
            link_model(parser, self._chosen.key)

    def _set_seed(self) -> None:
        """Seed all generators.

        Raises:
            SettingError: If the seed is out of range.
        """
        seed = self._get(self.config, "seed_everything")
        if isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise SettingError(f"seed_everything {seed} must be an integer from 0 to {2**32 - 1}")
        super()._set_seed()

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse without Lightning's warning about ``sys.argv``, which holds the same arguments.

        Raises:
            SettingError: If an argument is unknown or malformed.
        """
        arguments = cast(Sequence[str], args)
        try:
            self.config = parser.parse_args(arguments)
        except ArgumentError as error:
            own = self._parser(self._command) if self._command else parser
            raise parser_error(error, own, arguments) from error

    def _parse_ckpt_path(self) -> None:
        """Keep a checkpoint's hyper-parameters from overriding the configuration silently."""

    def before_instantiate_classes(self) -> None:
        """Refuse settings that cannot work before anything is built; find the checkpoint to start from."""
        carry_errors(self.parser)
        if self.subcommand is None:
            return
        trainer = self._get(self.config, "trainer")
        if self._chosen.is_ours:
            self._choose_storage(trainer)
        torch.set_float32_matmul_precision(self._get(self.config, "matmul_precision"))
        strategy = trainer.strategy
        refuse_sharding(strategy if isinstance(strategy, str) else strategy.class_path)
        check_trainer(trainer, self.subcommand == "fit")
        chosen = self.config[self.subcommand]
        if chosen["weights_only"] is None:
            chosen["weights_only"] = True  # a checkpoint of unknown origin runs no code
        parser = self._parser(self.subcommand)
        self._start = StartingPoint.find(self.subcommand, chosen, lambda: parser.dump(chosen, skip_none=False))

    def _choose_storage(self, trainer: Any) -> None:
        """Put the storage that the Trainer leads to into the configuration."""
        storage, sparsity = (self._get(self.config, f"{self._chosen.key}.{name}") for name in ("storage", "sparsity"))
        chosen = choose_storage(storage, sparsity, trainer)
        if chosen != storage:
            self.config[f"{self.subcommand}.{self._chosen.key}.storage"] = chosen

    def instantiate_classes(self) -> None:
        """Make the configured objects.

        Raises:
            SettingError: If an argument of a class cannot be, or the class is abstract.
        """
        with carried_errors():
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer with our logger and the callbacks that every run has."""
        trainer = self._get(self.config_init, "trainer")
        logger = trainer.get("logger")
        records = logger is not False and self.subcommand in {"fit", "validate", "test"}
        others = [] if logger in (None, True, False) else logger if isinstance(logger, list) else [logger]
        kwargs["logger"] = [self._tracking(), *others] if records else False
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError) as error:  # no such device, and others
            raise SettingError.inside(error) or SettingError(f"trainer: {compact(error)}") from error

    def _tracking(self) -> MLflowLogger:
        """A new run, or the one that the checkpoint belongs to."""
        tracking = MLflowLogger(**self._get(self.config_init, "tracking"))
        tracking.add_tags({STAGE_TAG: str(self.subcommand)})
        if self.subcommand == "fit":
            self._start.join_run(tracking)
        return tracking

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[pl.Callback]) -> pl.Trainer:
        """Add what every run has."""
        furnish(config, callbacks, self._start.changed, self._evaluation)
        if isinstance(self.datamodule, ClassificationData):
            config["use_distributed_sampler"] = False  # it shards by itself
        callbacks[:0] = self._further
        replay = None if isinstance(self.datamodule, ClassificationData) else ReplayOrder()
        trainer = super()._instantiate_trainer(config, callbacks if replay is None else [*callbacks, replay])
        if replay is not None:
            replay.attach(trainer)
        skip_empty_hooks(trainer.callbacks)  # type: ignore[attr-defined]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = DurableIO()
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Refuse a checkpoint of another network before a run begins; the Trainer would load it much later."""
        path = self._get(self.config_init, "ckpt_path")
        if path is not None:
            weights_only = self._get(self.config_init, "weights_only")
            load_weights(self.model, self.trainer, path, weights_only, subcommand == "fit")
        if subcommand == "fit" and isinstance(self.model, SparseClassifier):
            check_optimizer(self.model)
        try:
            super()._run_subcommand(subcommand)
        except RuntimeError as error:
            if not _is_of_a_callback(error):
                raise
            raise SettingError(compact(error)) from error

    def after_fit(self) -> None:
        """Evaluate the last weights if need be, touch the test set once where it was held back, and log the model."""
        metrics = dict(self.trainer.callback_metrics)
        quiet = {"datamodule": self.datamodule, "verbose": False}
        if self.trainer.enable_validation and self._evaluation.step != self.trainer.global_step:
            self.trainer.validate(self.model, **quiet)
            metrics |= self.trainer.callback_metrics
        held_back = isinstance(self.model, SparseClassifier) and self.model.evaluation_split == "val"
        has_test_set = self.datamodule is None or is_overridden("test_dataloader", self.datamodule)
        if held_back and self._sees_test_set and has_test_set:
            self.trainer.test(self.model, **quiet)
            metrics |= self.trainer.callback_metrics
        if self.trainer.is_global_zero:
            log_model(self.trainer, self.model)
            show_summary(metrics, self.trainer.logger)


def _is_of_a_callback(error: Exception) -> bool:
    """Whether one of Lightning's callbacks raised an error: its settings are wrong (a metric that nothing logs)."""
    where = traceback.extract_tb(error.__traceback__)[-1].filename
    return Path(where).parent == Path(str(pl.callbacks.__file__)).parent
