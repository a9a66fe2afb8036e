"""The network of a fit as an MLflow model: an exported program, which MLflow loads without this package."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from psn_lightning.checkpoints import BestAndLast
from psn_lightning.commands.example_inputs import find_example_inputs
from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.export.folding import fold
from psn_lightning.export.formats import quiet
from psn_lightning.export.model import compare, prepare_inputs
from psn_lightning.tracking import MLflowLogger

_EVALUATIONS = ("val/", "test/")


def log_model(trainer: pl.Trainer, model: pl.LightningModule) -> None:
    """Log the network of a finished fit, if the logger logs models; a failure is a warning.

    Args:
        trainer: Trainer of the fit.
        model: Model that it trained.
    """
    logger = trainer.logger
    if not isinstance(logger, MLflowLogger) or logger.model == "none" or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        try:
            network, step = _choose_weights(trainer, model, logger.model)
            inputs = find_example_inputs(model, trainer.datamodule, is_ready=True)  # type: ignore[attr-defined]
            save_model(network, inputs, folder)
            logger.log_model(folder, step, [name for name in logger.metrics if name.startswith(_EVALUATIONS)])
        except Exception as error:  # of torch.export, the user's data, the disk; the run itself is complete
            rank_zero_warn(
                f"the run has no MLflow model: {in_one_line(error)[:300]}. Nothing else of it is missing; "
                "tracking.model none leaves the model out"
            )


def _choose_weights(trainer: pl.Trainer, model: pl.LightningModule, choice: str) -> tuple[nn.Module, int]:
    """The model with the weights of the last step or of the best checkpoint, and their optimizer step."""
    checkpoints = next((c for c in trainer.callbacks if isinstance(c, BestAndLast)), None)  # type: ignore[attr-defined]
    path = checkpoints.best_model_path if checkpoints is not None and choice == "best" else ""
    if not path or not Path(path).is_file():
        return model, trainer.global_step
    checkpoint = torch.load(path, map_location="cpu", weights_only=False, mmap=True)  # written by this run
    best = copy.deepcopy(model).cpu()
    best.load_state_dict(checkpoint["state_dict"], strict=model.strict_loading)
    return best, int(checkpoint["global_step"])


def save_model(model: nn.Module, inputs: Sequence[Tensor], folder: Path) -> None:
    """Write a model in MLflow's format, and compare it with the model.

    Args:
        model: Any module whose forward pass takes one tensor and returns one.
        inputs: Inputs of a forward pass.
        folder: Folder to write.

    Raises:
        SettingError: If the forward pass takes or returns something else, or the written model computes something else.
        Exception: If ``torch.export`` does not understand the forward pass.
    """
    import mlflow.pytorch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    folded, rows = fold(model), prepare_inputs(model, inputs)
    with torch.no_grad():
        output = folded(*rows)
    if len(rows) != 1 or not isinstance(output, Tensor):
        raise SettingError("MLflow serves models that take one tensor and return one: use psn-train export for others")
    example = rows[0].numpy()

    def spec(array: np.ndarray) -> Schema:
        return Schema([TensorSpec(array.dtype, (-1, *array.shape[1:]))])

    with quiet("mlflow"):
        mlflow.pytorch.save_model(
            _OneInput(folded.module),
            folder,
            signature=ModelSignature(spec(example), spec(output.numpy())),
            input_example=example,
            serialization_format="pt2",
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in ("mlflow", "torch", "numpy")],
        )
        loaded = mlflow.pytorch.load_model(str(folder))
    compare(folded, loaded, rows, "the MLflow model")


class _OneInput(nn.Module):
    """A forward pass with one argument by position, of which MLflow makes the number of rows free."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> object:
        return self.module(x)
