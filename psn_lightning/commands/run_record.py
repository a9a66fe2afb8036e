"""What a run leaves behind besides its metrics: config, tags, figures, connectivity, checkpoints."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from psn_lightning import __version__
from psn_lightning.callbacks import DynamicTopology, EquilibriumMonitor, TopologyLogger
from psn_lightning.callbacks.layers import layers_of
from psn_lightning.callbacks.recording import connectivities
from psn_lightning.checkpoints import BestAndLast
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.checkpoints.origin import KEY
from psn_lightning.commands.topology_figures import equilibrium_figure, fan_in_histogram
from psn_lightning.data import ClassificationData
from psn_lightning.topology.statistics import realised_sparsity
from psn_lightning.tracking.address import without_password
from psn_lightning.tracking.logger import MLflowLogger
from psn_lightning.tracking.provenance import provenance


class ConfigRecord(SaveConfigCallback):
    """Logs the resolved configuration: ``config.yaml`` as artifact (it reruns the run), flattened as params."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Log it to the run, if there is one; a run that is continued has it already."""
        logger = trainer.logger
        if not isinstance(logger, MLflowLogger) or logger.configured:
            return
        text = self._text()
        logger.log_text(text, "config.yaml")
        logger.log_hyperparams(flatten(yaml.safe_load(text)))

    def _text(self) -> str:
        """As YAML, without a database's password: who reruns it from elsewhere gives his own."""
        config = self.config.clone()
        tracking = config["tracking"]
        tracking.uri = tracking.uri and without_password(tracking.uri)
        return str(self.parser.dump(config, skip_none=False))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let every checkpoint know its configuration and its run; send the run all that is behind.

        A kill after this moment then loses no metric: what comes later is computed, and logged, again.
        """
        logger = trainer.logger if isinstance(trainer.logger, MLflowLogger) else None
        checkpoint[KEY] = {"config": self._text(), "run_id": logger.run_id if logger else None, "version": __version__}
        if logger:
            if trainer.training:
                _log_step_metrics(trainer)
            logger.flush()


def _log_step_metrics(trainer: pl.Trainer) -> None:
    """Log a step's metrics now: Lightning does so only after the hooks in which checkpoints are saved."""
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
    if progress.completed < progress.processed:
        trainer._logger_connector.update_train_step_metrics()


class RunRecord(pl.Callback):
    """Tags the run with code and data, and leaves figures, connectivity and checkpoints as artifacts.

    Args:
        topology: Knows the topology that the run began with.
        equilibrium: Knows how the fan-in CCV moved.
        checkpoints: Knows where the checkpoints are; None where none are written.
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
        """Tag the run, whatever it does first."""
        if isinstance(trainer.logger, MLflowLogger) and not self._tagged:
            self._tagged = True
            tags = provenance() | {
                "rule": self._rule(trainer),
                "storage": _storages(pl_module),
            }
            data = getattr(trainer, "datamodule", None)
            if isinstance(data, ClassificationData):
                tags |= data.description()
            elif data is not None:
                tags["dataset.name"] = type(data).__name__
            trainer.logger.log_tags(tags)

    @staticmethod
    def _rule(trainer: pl.Trainer) -> str:
        """What rewrites the topology: ``RigL``, say, or the rule of a :class:`DynamicTopology`; else ``static``."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, DynamicTopology):
                plain = type(callback) is DynamicTopology
                return type(callback.rule if plain else callback).__name__
        return "static"

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """A run that was asked to stop has not failed."""
        if isinstance(exception, SIGTERMException | KeyboardInterrupt) and isinstance(trainer.logger, MLflowLogger):
            trainer.logger.kill(f"stopped at step {trainer.global_step}")

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the artifacts."""
        logger = trainer.logger
        if not isinstance(logger, MLflowLogger):
            return
        final = connectivities(pl_module)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            if final:
                fan_in_histogram(self.topology.initial, final).savefig(folder / "fan_in_before_after.png", dpi=110)
            if self.equilibrium.trajectories:
                sparsity = {name: realised_sparsity([connectivity]) for name, connectivity in final.items()}
                figure = equilibrium_figure(self.equilibrium.trajectories, sparsity)
                figure.savefig(folder / "equilibrium.png", dpi=110)
            (folder / "connectivity").mkdir()
            for name, connectivity in final.items():
                connectivity.save(folder / "connectivity" / f"{name}.npz")
            if self.checkpoints:
                _link_checkpoints(self.checkpoints, folder / "checkpoints")
            logger.log_artifacts(folder)


def _storages(pl_module: pl.LightningModule) -> str:
    """How the weights are kept: ``csr``, say; ``csr, masked`` where both are used, ``dense`` without sparse layers."""
    return ", ".join(sorted({layer.storage for layer in layers_of(pl_module).values()})) or "dense"


def _link_checkpoints(checkpoints: BestAndLast, folder: Path) -> None:
    folder.mkdir()
    for name, path in (("best.ckpt", checkpoints.best_model_path), ("last.ckpt", checkpoints.last_model_path)):
        if path:
            (folder / name).symlink_to(Path(path).resolve())
