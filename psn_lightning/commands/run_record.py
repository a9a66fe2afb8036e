"""Record of a run in MLflow besides the metrics: config, tags, figures, connectivity, checkpoints."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from psn_lightning import __version__
from psn_lightning.callbacks import DynamicTopology, EquilibriumMonitor, TopologyLogger
from psn_lightning.callbacks.latent import LatentWeights
from psn_lightning.callbacks.layers import layers_of
from psn_lightning.callbacks.lightning_private import log_step_metrics
from psn_lightning.callbacks.recording import connectivities
from psn_lightning.checkpoints import BestAndLast
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.checkpoints.origin import KEY
from psn_lightning.commands.topology_figures import equilibrium_figure, fan_in_histogram
from psn_lightning.data import ClassificationData
from psn_lightning.figure_style import save_figure
from psn_lightning.topology.statistics import realised_sparsity
from psn_lightning.tracking.address import without_password
from psn_lightning.tracking.logger import MLflowLogger
from psn_lightning.tracking.provenance import machine, provenance


class ConfigRecord(SaveConfigCallback):
    """Logs the resolved configuration: as artifact ``config.yaml``, which repeats the run, and flattened as params."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Log the configuration, unless the run is continued and has one."""
        logger = trainer.logger
        if not isinstance(logger, MLflowLogger) or logger.configured:
            return
        logger.log_text(self._text, "config.yaml")
        logger.log_hyperparams(flatten(yaml.safe_load(self._text)))

    @cached_property
    def _text(self) -> str:
        """Configuration as YAML, without the password of a database."""
        config = self.config.clone()
        tracking = config["tracking"]
        tracking.uri = tracking.uri and without_password(tracking.uri)
        return str(self.parser.dump(config, skip_none=False))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add configuration and run id to the checkpoint, and send all metrics so far.

        A resumed run computes and logs only later metrics again, so a kill after this point loses none.
        """
        logger = trainer.logger if isinstance(trainer.logger, MLflowLogger) else None
        checkpoint[KEY] = {"config": self._text, "run_id": logger.run_id if logger else None, "version": __version__}
        if logger:
            if trainer.training:
                log_step_metrics(trainer)
            logger.flush()


class RunRecord(pl.Callback):
    """Tags the run with code and data, and logs figures, connectivity and checkpoints as artifacts.

    Args:
        topology: Callback with the connectivity at the start of the run.
        equilibrium: Callback with the trajectories of the fan-in CCV.
        checkpoints: Callback with the paths of the checkpoints; None if no checkpoints are written.
    """

    def __init__(
        self, topology: TopologyLogger, equilibrium: EquilibriumMonitor, checkpoints: BestAndLast | None
    ) -> None:
        self.topology = topology
        self.equilibrium = equilibrium
        self.checkpoints = checkpoints
        self._tagged = False

    @rank_zero_only
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Tag the run in the first stage of the trainer, and say how many rows a step of several processes has."""
        rows = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
        if stage == "fit" and trainer.world_size > 1 and rows:
            n = trainer.world_size
            rank_zero_info(f"{n} processes with batches of {rows} rows: {n * rows} rows in each optimizer step")
        if isinstance(trainer.logger, MLflowLogger) and not self._tagged:
            self._tagged = True
            tags = provenance() | _describe_devices(trainer)
            tags |= {"rule": name_rule(trainer), "storage": _list_storages(pl_module)}
            data = getattr(trainer, "datamodule", None)
            if isinstance(data, ClassificationData):
                found = data.description()
                tags |= found
                trainer.logger.log_dataset(found["dataset.name"], found["dataset.digest"], found["dataset.folder"])
            elif data is not None:
                tags["dataset.name"] = type(data).__name__
            trainer.logger.log_tags(tags)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Mark a run that was asked to stop as killed, not failed."""
        if isinstance(exception, SIGTERMException | KeyboardInterrupt) and isinstance(trainer.logger, MLflowLogger):
            trainer.logger.kill(f"stopped at step {trainer.global_step}")

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the artifacts."""
        logger = trainer.logger
        if not isinstance(logger, MLflowLogger):
            return
        final = connectivities(pl_module)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            if final:
                figure = fan_in_histogram(self.topology.initial, final)
                save_figure(figure, folder / "fan_in_before_after.png")
            if self.equilibrium.trajectories:
                sparsity = {name: realised_sparsity([connectivity]) for name, connectivity in final.items()}
                figure = equilibrium_figure(self.equilibrium.trajectories, sparsity)
                save_figure(figure, folder / "equilibrium.png")
            (folder / "connectivity").mkdir()
            for name, connectivity in final.items():
                connectivity.save(folder / "connectivity" / f"{name}.npz")
            if self.checkpoints:
                _link_checkpoints(self.checkpoints, folder / "checkpoints")
            logger.log_artifacts(folder)


def name_rule(trainer: pl.Trainer) -> str:
    """Name of the callback that changes the masks, or of a :class:`DynamicTopology`'s rule; else ``static``."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, DynamicTopology):
            plain = type(callback) is DynamicTopology
            return type(callback.rule if plain else callback).__name__
        if isinstance(callback, LatentWeights):
            return type(callback).__name__
    return "static"


def _describe_devices(trainer: pl.Trainer) -> dict[str, str]:
    """Number of processes, precisions, and on CUDA devices their kind, without which times cannot be compared."""
    tags = {"world_size": str(trainer.world_size), "precision": str(trainer.precision)}
    tags["matmul_precision"] = torch.get_float32_matmul_precision()
    device = trainer.strategy.root_device
    if device.type == "cuda":
        tags["machine"] = f"{machine()}, {trainer.world_size} × {torch.cuda.get_device_name(device)}"
        tags["version.cuda"] = str(torch.version.cuda)
    return tags


def _list_storages(pl_module: pl.LightningModule) -> str:
    """Storages of the sparse layers, such as ``csr, masked``; ``dense`` without sparse layers."""
    return ", ".join(sorted({layer.storage for layer in layers_of(pl_module).values()})) or "dense"


def _link_checkpoints(checkpoints: BestAndLast, folder: Path) -> None:
    """Link the best and the last checkpoint into a new folder."""
    folder.mkdir()
    for name, path in (("best.ckpt", checkpoints.best_model_path), ("last.ckpt", checkpoints.last_model_path)):
        if path:
            (folder / name).symlink_to(Path(path).resolve())
