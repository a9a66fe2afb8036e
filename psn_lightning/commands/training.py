"""``psn-train fit``, ``validate``, ``test`` and ``predict``: LightningCLI with everything a run has."""

from __future__ import annotations

import re
import traceback
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
import yaml
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from psn_lightning.callbacks import LastEvaluation, NumericalGuard
from psn_lightning.callbacks.ranks import refuse_sharding
from psn_lightning.callbacks.sparsify import sparsify_first
from psn_lightning.checkpoints import BestAndLast, ReplayOrder
from psn_lightning.checkpoints.durable import DurableIO
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.checkpoints.origin import Origin, check_network, check_same, check_state, read_origin
from psn_lightning.commands import summary
from psn_lightning.commands.limits import check_optimizer, check_trainer
from psn_lightning.commands.messages import check_configs, explained
from psn_lightning.commands.models import check_alone, model_class, named_model
from psn_lightning.commands.predictions import PredictionTable
from psn_lightning.commands.run_record import ConfigRecord
from psn_lightning.commands.trainer import ask_for_accelerators_once, furnish, skip_empty_hooks
from psn_lightning.data import ClassificationData
from psn_lightning.errors import SettingError, compact, in_one_line
from psn_lightning.nn import sparse_layers
from psn_lightning.nn.storages import check_csr_precision, csr_computes_in
from psn_lightning.task import SparseClassifier
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.newest import newest_origin
from psn_lightning.tracking.store import STAGE_TAG

_OF_THE_DATA: dict[str, Callable[[Any], Any]] = {
    "n_features": lambda data: getattr(data, "n_features", None),
    "n_classes": lambda data: getattr(data, "n_classes", None),
    "evaluation_split": lambda data: getattr(data, "evaluation_split", "val"),
}
"""What our model is told of its data."""
_NEWEST = ("last", "best")  # instead of a path: that checkpoint of the newest run


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
        self._trains = run
        self._further = callbacks
        self._sees_test_set = sees_test_set
        self._evaluation = LastEvaluation()
        self._origin: Origin | None = None
        self._changed: dict[str, Any] = {}
        self._find_model(args)
        ask_for_accelerators_once()
        super().__init__(
            SparseClassifier if self._is_flat else pl.LightningModule,
            pl.LightningDataModule if self._is_flat else None,
            subclass_mode_model=not self._is_flat,
            subclass_mode_data=True,
            save_config_callback=ConfigRecord,
            seed_everything_default=42,
            auto_configure_optimizers=not self._is_ours,
            parser_kwargs={"exit_on_error": False} | {name: {"exit_on_error": False} for name in self.subcommands()},
            trainer_defaults={
                "num_sanity_val_steps": 0,
            },
            args=list(args),
            run=run,
        )

    def _find_model(self, args: Sequence[str]) -> None:
        """Whether the model is ours, or made like ours."""
        check_configs(args)
        path = named_model(args)
        found = model_class(path)
        self._is_flat = path is None
        if path is not None:
            check_alone(path, args)
        self._is_ours = found is not None and issubclass(found, SparseClassifier)
        self._model_key = "model" if self._is_flat else "model.init_args"

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Tracking and predictions as groups of their own; the model learns its shape from the data."""
        parser.add_class_arguments(MLflowLogger, "tracking", instantiate=False)
        parser.add_lightning_class_args(PredictionTable, "predictions")
        parser.add_lightning_class_args(BestAndLast, "checkpoints")
        parser.add_lightning_class_args(NumericalGuard, "guards")
        parser.add_argument(
            "--allow_config_changes",
            type=bool,
            default=False,
            help="go on from ckpt_path although the configuration differs, as an MLflow run of its own",
        )
        if self._is_flat:
            parser.set_defaults({"model.topology": {"class_path": "Uniform"}})
        if not self._trains:
            parser.add_argument("--figure", type=str, default="topology.png", help="where the figure goes")
            for key in ("ckpt_path", "weights_only"):
                parser.add_argument(f"--{key}", help="not used here; lets a run's own config.yaml be given")
        if self._is_ours:
            parser.link_arguments("seed_everything", f"{self._model_key}.seed")
            for attribute, get in _OF_THE_DATA.items():
                parser.link_arguments("data", f"{self._model_key}.{attribute}", compute_fn=get, apply_on="instantiate")

    def _set_seed(self) -> None:
        """Refuse what Lightning would only partly name."""
        seed = self._get(self.config, "seed_everything")
        if isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise SettingError(f"seed_everything {seed} must be an integer from 0 to {2**32 - 1}")
        super()._set_seed()

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse without Lightning's warning about ``sys.argv``: ours are the same.

        Raises:
            SettingError: If an argument cannot be.
        """
        arguments = cast(Sequence[str], args)
        try:
            self.config = parser.parse_args(arguments)
        except ArgumentError as error:
            own = self._parser(arguments[0]) if self._trains and arguments[0] in self.subcommands() else parser
            raise explained(error, own) from error

    def _parse_ckpt_path(self) -> None:
        """Keep a checkpoint's hyper-parameters from overriding the configuration silently."""

    def before_instantiate_classes(self) -> None:
        """Refuse what cannot work before anything is built; find the checkpoint to go on from."""
        if self.subcommand is None:
            return
        self._choose_storage()
        strategy = self._get(self.config, "trainer.strategy")
        check_trainer(self._get(self.config, "trainer"), self.subcommand == "fit")
        refuse_sharding(strategy if isinstance(strategy, str) else strategy.class_path)
        if self._get(self.config, "weights_only") is None:
            self.config[self.subcommand]["weights_only"] = True  # a checkpoint of unknown origin runs no code
        self._find_origin(self._get(self.config, "ckpt_path"), self._get(self.config, "weights_only"))
        if self._origin:
            text = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False)
            now = flatten(yaml.safe_load(text))
            if self.subcommand == "fit":
                self._changed = check_same(self._origin, now, self._get(self.config, "allow_config_changes"))
            else:
                check_network(self._origin, now)

    def _choose_storage(self) -> None:
        """Have ``auto`` mean masked where csr could not do what is asked for."""
        trainer = self._get(self.config, "trainer")
        alone = trainer.strategy == "auto" and trainer.devices in ("auto", 1, "1") and trainer.num_nodes == 1
        possible = alone and csr_computes_in(trainer.precision)
        if not self._is_ours:
            return
        storage = self._get(self.config, f"{self._model_key}.storage")
        if storage == "csr":
            check_csr_precision(trainer.precision)
        if storage == "auto" and not possible:
            self.config[f"{self.subcommand}.{self._model_key}.storage"] = "masked"

    def _find_origin(self, path: str | None, weights_only: bool) -> None:
        """The checkpoint that is meant, and the run that it belongs to."""
        if path in _NEWEST:
            self._origin = newest_origin(MLflowLogger(**self._get(self.config, "tracking")), path, weights_only)
            path = str(self._origin.path) if self._origin.path else None
            self.config[str(self.subcommand)]["ckpt_path"] = path
        if path is None and self.subcommand != "fit":
            raise SettingError(f"{self.subcommand} needs a trained network: give --ckpt_path …/last.ckpt")
        if path is not None and not Path(path).is_file():
            raise SettingError(
                f"--ckpt_path {path} is no file; a run keeps its own under artifacts, checkpoints. "
                "The words last and best mean those of the newest run"
            )
        if path is not None and self._origin is None:
            self._origin = read_origin(Path(path), weights_only)

    def instantiate_classes(self) -> None:
        """Make what is configured.

        Raises:
            SettingError: If a class is only what others are made of.
        """
        try:
            super().instantiate_classes()
        except (TypeError, ValueError) as error:
            abstract = re.search(r"abstract class (\w+)", str(error))
            if abstract is None:
                raise
            raise SettingError(f"{abstract[1]} is only what others are made of: name one of those") from error

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer with our logger and the callbacks that every run has."""
        trainer = self._get(self.config_init, "trainer")
        logger = trainer.get("logger")
        records = logger is not False and self.subcommand in {"fit", "validate", "test"}
        others = [] if logger in (None, True, False) else logger if isinstance(logger, list) else [logger]
        kwargs["logger"] = [self._tracking(), *others] if records else False
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:  # no such device, and others
            told = SettingError.inside(error)
            given = ", ".join(f"{key} {trainer.get(key)}" for key in ("accelerator", "devices", "strategy"))
            raise told or SettingError(f"trainer ({given}): {compact(error)}") from error

    def _tracking(self) -> MLflowLogger:
        """A new run, or the one that the checkpoint belongs to."""
        tracking = MLflowLogger(**self._get(self.config_init, "tracking"))
        tracking.add_tags({STAGE_TAG: str(self.subcommand)})
        if self.subcommand != "fit":
            return tracking
        if self._origin and self._origin.run_id and not self._changed:
            tracking.resume(self._origin.run_id, self._origin.step, self._origin.path)
        elif self._origin and self._changed:
            tracking.branch_off(self._origin.run_id, self._origin.step, self._changed)
        return tracking

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[pl.Callback]) -> pl.Trainer:
        """Add what every run has."""
        furnish(config, callbacks, self._changed, self._evaluation)
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
            checkpoint = torch.load(path, map_location="cpu", weights_only=weights_only, mmap=True)
            check_state(Path(path), checkpoint, subcommand == "fit")
            self._load(checkpoint["state_dict"])
        if subcommand == "fit" and isinstance(self.model, SparseClassifier):
            check_optimizer(self.model)
        try:
            super()._run_subcommand(subcommand)
        except (RuntimeError, MisconfigurationException) as error:
            told = _of_a_callback(error)
            if told is None:
                raise
            raise told from error

    def _load(self, state_dict: dict[str, Any]) -> None:
        """Load a checkpoint's weights and masks.

        Raises:
            SettingError: If they are those of another network.
        """
        sparsify_first(self.trainer, self.model)
        try:
            self.model.load_state_dict(state_dict, strict=self.model.strict_loading)
        except RuntimeError as error:
            masks = any(key.endswith("_mask") for key in state_dict) and not sparse_layers(self.model)
            remedy = (
                ". It is of a sparse model: add the callback Sparsify, as its configuration has it" if masks else ""
            )
            raise SettingError(
                f"the checkpoint does not fit the configured network: {in_one_line(error)}{remedy}"
            ) from error

    def after_fit(self) -> None:
        """Evaluate the last weights if that has not been done, and touch the test set once where it was held back."""
        metrics = dict(self.trainer.callback_metrics)
        quiet = {"datamodule": self.datamodule, "verbose": False}
        if self.trainer.enable_validation and self._evaluation.step != self.trainer.global_step:
            self.trainer.validate(self.model, **quiet)
            metrics |= self.trainer.callback_metrics
        if isinstance(self.model, SparseClassifier) and self.model.evaluation_split == "val" and self._sees_test_set:
            self.trainer.test(self.model, **quiet)
            metrics |= self.trainer.callback_metrics
        if self.trainer.is_global_zero:
            summary.show(metrics, self.trainer.logger)


def _of_a_callback(error: Exception) -> SettingError | None:
    """What one of Lightning's callbacks found wrong with its settings (a metric that is not logged); else None."""
    where = traceback.extract_tb(error.__traceback__)[-1].filename
    return SettingError(compact(error)) if Path(where).parent == Path(pl.callbacks.__file__).parent else None
