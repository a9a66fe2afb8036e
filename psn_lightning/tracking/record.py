"""What a run leaves behind besides its metrics: config, tags, figures, connectivity, checkpoints."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from mlflow.entities import RunTag

from psn_lightning.callbacks import BestAndLast, DynamicTopology, EquilibriumMonitor, TopologyLogger
from psn_lightning.data import ClassificationData
from psn_lightning.figures import equilibrium_figure, fan_in_histogram
from psn_lightning.task import SparseClassifier
from psn_lightning.topology.statistics import realised_sparsity
from psn_lightning.tracking.logger import Tracking
from psn_lightning.tracking.provenance import provenance


class ConfigRecord(SaveConfigCallback):
    """Logs the resolved configuration: ``config.yaml`` as artifact (it reruns the run), flattened as params."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Log it to the run, if there is one."""
        if not isinstance(trainer.logger, Tracking):
            return
        text = self.parser.dump(self.config, skip_none=False)
        trainer.logger.experiment.log_text(trainer.logger.run, text, "config.yaml")
        trainer.logger.log_hyperparams(flatten(yaml.safe_load(text)))


class RunRecord(pl.Callback):
    """Tags the run with code and data, and leaves figures, connectivity and checkpoints as artifacts.

    Args:
        topology: Knows the topology that the run began with.
        equilibrium: Knows how the fan-in CCV moved.
        checkpoints: Knows where the checkpoints are.
    """

    def __init__(self, topology: TopologyLogger, equilibrium: EquilibriumMonitor, checkpoints: BestAndLast) -> None:
        self.topology = topology
        self.equilibrium = equilibrium
        self.checkpoints = checkpoints
        self._tagged = False

    @rank_zero_only
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Tag the run, whatever it does first."""
        if isinstance(trainer.logger, Tracking) and not self._tagged:
            self._tagged = True
            tags = provenance() | {"stage": TrainerFn(stage).value, "rule": self._rule(trainer)}
            data = getattr(trainer, "datamodule", None)
            if isinstance(data, ClassificationData):
                tags |= data.description()
            run_tags = [RunTag(key, value) for key, value in tags.items()]
            trainer.logger.experiment.log_batch(trainer.logger.run, tags=run_tags)

    @staticmethod
    def _rule(trainer: pl.Trainer) -> str:
        """What rewrites the topology: ``RigL``, say, or the rule of a :class:`DynamicTopology`; else ``static``."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, DynamicTopology):
                plain = type(callback) is DynamicTopology
                return type(callback.rule if plain else callback).__name__
        return "static"

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: SparseClassifier) -> None:  # type: ignore[override]
        """Leave the artifacts."""
        logger = trainer.logger
        if not isinstance(logger, Tracking):
            return
        final = pl_module.network.connectivities()
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            fan_in_histogram(self.topology.initial, final).savefig(folder / "fan_in_before_after.png", dpi=110)
            if self.equilibrium.trajectories:
                sparsity = {name: realised_sparsity([connectivity]) for name, connectivity in final.items()}
                figure = equilibrium_figure(self.equilibrium.trajectories, sparsity)
                figure.savefig(folder / "equilibrium.png", dpi=110)
            (folder / "connectivity").mkdir()
            for name, connectivity in final.items():
                connectivity.save(folder / "connectivity" / f"{name}.npz")
            self._link_checkpoints(folder / "checkpoints")
            logger.experiment.log_artifacts(logger.run, str(folder))

    def _link_checkpoints(self, folder: Path) -> None:
        folder.mkdir()
        for name, path in (
            ("best.ckpt", self.checkpoints.best_model_path),
            ("last.ckpt", self.checkpoints.last_model_path),
        ):
            if path:
                (folder / name).symlink_to(Path(path).resolve())


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}, "c": [{"d": 2}]}`` → ``{"a.b": 1, "c.0.d": 2}``; lists of scalars stay whole."""
    if isinstance(config, dict) and config:
        items = ((str(key), value) for key, value in config.items())
    elif isinstance(config, list) and any(isinstance(value, dict | list) for value in config):
        items = ((str(index), value) for index, value in enumerate(config))
    else:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat
