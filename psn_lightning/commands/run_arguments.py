"""Settings of ``psn-train`` beside those of model, data and Trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from lightning.pytorch.cli import LightningArgumentParser

from psn_lightning.callbacks import NumericalGuard
from psn_lightning.checkpoints import BestAndLast
from psn_lightning.commands.predictions import PredictionTable
from psn_lightning.tracking import MLflowLogger

_LINKED_TO_DATA: dict[str, Callable[[Any], Any]] = {
    "n_features": lambda data: getattr(data, "n_features", None),
    "n_classes": lambda data: getattr(data, "n_classes", None),
    "evaluation_split": lambda data: getattr(data, "evaluation_split", "val"),
}
"""Arguments of our model that come from its data module."""


def add_run_arguments(parser: LightningArgumentParser) -> None:
    """Add the settings that every command has: tracking, predictions, checkpoints and guards as groups of their own.

    Args:
        parser: Parser to add them to.
    """
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
    parser.add_argument(
        "--matmul_precision",
        type=Literal["highest", "high", "medium"],
        default="highest",
        help="precision of float32 products; high is TF32 on NVIDIA GPUs. Other than highest changes results",
    )


def add_figure_arguments(parser: LightningArgumentParser) -> None:
    """Add the settings of ``psn-train topology``.

    Args:
        parser: Parser to add them to.
    """
    parser.add_argument("--figure", type=str, default="topology.png", help="where the figure goes")
    for key in ("ckpt_path", "weights_only"):
        parser.add_argument(f"--{key}", help="not used here; lets a run's own config.yaml be given")


def link_model(parser: LightningArgumentParser, key: str) -> None:
    """Let our model have its seed from ``seed_everything``, and its shape from the data.

    Args:
        parser: Parser with the settings of the model.
        key: Key of the model's arguments.
    """
    parser.link_arguments("seed_everything", f"{key}.seed")
    for attribute, get in _LINKED_TO_DATA.items():
        parser.link_arguments("data", f"{key}.{attribute}", compute_fn=get, apply_on="instantiate")
