"""The table at the end of a fit."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

from psn_lightning.tracking import MLflowLogger

_ROWS = (
    ("test accuracy", "test/accuracy", "{:.4f}"),
    ("validation accuracy", "val/accuracy", "{:.4f}"),
    ("realised sparsity", "sparsity/realised", "{:.4f}"),
    ("fan-in CCV", "fan_in/ccv", "{:.3f}"),
    ("gradient ratio", "gradient/ratio", "{:.2f}"),
    ("seconds per epoch", "time/epoch_seconds", "{:.2f}"),
)


_OURS = ("sparsity/", "fan_in/", "gradient/", "topology/", "equilibrium/", "time/", "train/loss")
"""Beginnings of the names of metrics that callbacks log of any model, and of what every step logs."""


def _of_other_models(metrics: Mapping[str, Tensor]) -> list[tuple[str, str, str]]:
    """A model's own metrics under their own names, of those that are logged by step and epoch the latter."""
    known = {key for _, key, _ in _ROWS}
    names = [n for n in metrics if n not in known and not n.startswith(_OURS) and not n.endswith("_step")]
    names = [n for n in names if f"{n}_epoch" not in names]
    return [(name, name, "{:.4f}") for name in names if not name.endswith("/loss") or len(known & {*metrics}) < 2]


def show(metrics: Mapping[str, Tensor], logger: object) -> None:
    """Print the final figures of a fit, its run id, and how to look at it in MLflow."""
    table = Table("figure", "at the end", title="Finished")
    for title, key, form in (*_of_other_models(metrics), *_ROWS):
        if key in metrics:
            table.add_row(title, form.format(float(metrics[key])))
    console = Console()
    console.print(table)
    if isinstance(logger, MLflowLogger) and logger.undelivered:
        console.print(f"Not all of it is in MLflow yet, but in {logger.undelivered}; when it is back: psn-train sync")
    elif isinstance(logger, MLflowLogger):
        console.print(f"MLflow run {logger.run_id}; compare runs with:", highlight=False)
        console.print(f"  {ui_command(logger.store.shown)}", highlight=False, soft_wrap=True)


def ui_command(uri: str) -> str:
    """Shell command, or address, that shows the runs of a store."""
    if uri.startswith("http"):
        return f"open {uri}"
    mlflow = "mlflow" if shutil.which("mlflow") else str(Path(sys.executable).with_name("mlflow"))
    return f"{mlflow} ui --backend-store-uri {uri}"
