"""Tables that are printed before and after a fit."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelSummary
from rich.console import Console
from rich.table import Table
from torch import Tensor

from psn_lightning.callbacks import Sparsify
from psn_lightning.callbacks.mixtures import find_mixtures
from psn_lightning.nn import describe
from psn_lightning.tracking import MLflowLogger

_ROWS = (
    ("test accuracy", "test/accuracy", "{:.4f}"),
    ("validation accuracy", "val/accuracy", "{:.4f}"),
    ("realised sparsity", "sparsity/realised", "{:.4f}"),
    ("fan-in CCV", "fan_in/ccv", "{:.3f}"),
    ("gradient ratio", "gradient/ratio", "{:.2f}"),
    ("seconds per epoch", "time/epoch_seconds", "{:.2f}"),
)


_GROUPS = ("sparsity/", "fan_in/", "fan_out/", "gradient/", "topology/", "equilibrium/", "cost/", "moe/", "time/")
LIBRARY_METRICS = (*_GROUPS, "topkast/", "str/", "train/loss", "train/auxiliary_loss")
"""Prefixes of the metrics that callbacks log for any model, and the losses of training steps."""


def _list_own_metrics(metrics: Mapping[str, Tensor]) -> list[tuple[str, str, str]]:
    """List the metrics that a model logs itself: title, key and format; by epoch if logged by step and by epoch."""
    known = {key for _, key, _ in _ROWS}
    names = [n for n in metrics if n not in known and not n.startswith(LIBRARY_METRICS) and not n.endswith("_step")]
    names = [n for n in names if f"{n}_epoch" not in names]
    return [(name, name, "{:.4f}") for name in names if not name.endswith("/loss") or len(known & {*metrics}) < 2]


class LayerTable(ModelSummary):
    """Prints the table of sparse layers before training, instead of Lightning's summary of modules."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table of sparse layers, or the number of parameters of a dense model, and the mixtures."""
        if not trainer.is_global_zero or any(isinstance(c, Sparsify) for c in trainer.callbacks):  # type: ignore[attr-defined]
            return  # Sparsify prints the table itself
        table = describe(pl_module)
        n_parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        print(table if len(table) else f"{type(pl_module).__name__}: {n_parameters:,} parameters, no sparse layer")
        for name, layer in find_mixtures(pl_module).items():
            total, n_experts = layer.count_connections(), len(layer.experts)
            active = total * layer.active / n_experts
            print(
                f"{name}: {layer.active} of {n_experts} experts compute a row, {active:,.0f} of {total:,} connections; "
                f"the gate has {layer.gate.numel():,}"
            )


def show_summary(metrics: Mapping[str, Tensor], logger: object) -> None:
    """Print the last metrics of a fit, the id of the run, and the command that opens MLflow.

    Args:
        metrics: Last metrics of the trainer.
        logger: Logger of the trainer.
    """
    table = Table("metric", "last value", title="Finished")
    for title, key, form in (*_list_own_metrics(metrics), *_ROWS):
        if key in metrics:
            table.add_row(title, form.format(float(metrics[key])))
    console = Console()
    console.print(table)
    if isinstance(logger, MLflowLogger) and logger.undelivered:
        console.print(
            f"Not all of the run is in MLflow yet: the rest is in {logger.undelivered}; when MLflow is back: psn-train "
            "sync"
        )
    elif isinstance(logger, MLflowLogger):
        console.print(f"MLflow run {logger.run_id}; compare runs with:", highlight=False)
        console.print(f"  {ui_command(logger.store.shown)}", highlight=False, soft_wrap=True)


def ui_command(uri: str) -> str:
    """Shell command that opens the runs of a store.

    Args:
        uri: MLflow store.
    """
    if uri.startswith("http"):
        return f"open {uri}"
    mlflow = "mlflow" if shutil.which("mlflow") else str(Path(sys.executable).with_name("mlflow"))
    return f"{shlex.quote(mlflow)} ui --backend-store-uri {shlex.quote(uri)}"
