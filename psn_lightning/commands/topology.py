"""``psn-train topology``: statistics and figure of a topology, without training."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
from rich.console import Console
from rich.table import Table

from psn_lightning.callbacks.recording import connectivities
from psn_lightning.callbacks.sparsify import sparsify_first
from psn_lightning.commands.topology_figures import topology_figure
from psn_lightning.errors import SettingError
from psn_lightning.figure_style import save_figure
from psn_lightning.files import atomically
from psn_lightning.task import SparseClassifier
from psn_lightning.topology.statistics import (
    GroupStatistics,
    LayerStatistics,
    realised_sparsity,
    summarize,
    summarize_groups,
)


def show_topology(model: pl.LightningModule, trainer: pl.Trainer, figure_path: str) -> None:
    """Print the statistics of every sparse layer, and draw profile, mask and fan-out.

    Args:
        model: Model, sparse or made sparse by the trainer's callback :class:`Sparsify`.
        trainer: Trainer with the callbacks of the run.
        figure_path: File of the figure; the suffix chooses the format.

    Raises:
        SettingError: If the model has no sparse layer, or the figure cannot be written.
    """
    sparsify_first(trainer, model)
    layers = connectivities(model)
    if not layers:
        raise SettingError(
            f"{type(model).__name__} has no sparse layer: add the callback Sparsify to trainer.callbacks"
        )
    target = f"target sparsity {model.hparams['sparsity']:g}, " if isinstance(model, SparseClassifier) else ""
    title = f"{target}realised {'' if target else 'sparsity '}{realised_sparsity(layers.values()):.4f}"
    table = Table("", *layers, title=title)
    columns = [
        _format_statistics(summarize(connectivity)) | _format_groups(summarize_groups(connectivity))
        for connectivity in layers.values()
    ]
    for statistic in max(columns, key=len):
        table.add_row(statistic, *(column.get(statistic, "–") for column in columns))
    console = Console()
    console.print(table)
    path = Path(figure_path)
    if not path.suffix:
        raise SettingError(f"--figure {path} has no format: give a path that ends in .png, .svg or .pdf")
    try:
        with atomically(path) as scratch:
            save_figure(topology_figure(layers), scratch)
    except (OSError, ValueError) as error:
        raise SettingError(
            f"--figure {path} cannot be written ({error}): give another path, ending in .png, .svg or .pdf"
        ) from error
    console.print(f"Profile, mask and fan-out: {path}", highlight=False)


def _format_statistics(s: LayerStatistics) -> dict[str, str]:
    """Format the statistics of a layer for the table."""
    return {
        "inputs → neurons": f"{s.n_in} → {s.n_out}",
        "connections": f"{s.connections:,}",
        "realised sparsity": f"{s.sparsity:.4f}",
        "fan-in mean": f"{s.fan_in_mean:.2f}",
        "fan-in min … max": f"{s.fan_in_min} … {s.fan_in_max}",
        "fan-in CCV": f"{s.fan_in_ccv:.3f}",
        "fan-in Gini": f"{s.fan_in_gini:.3f}",
        "dead neurons": str(s.dead_neurons),
        "fan-out min … max": f"{s.fan_out_min} … {s.fan_out_max}",
        "fan-out std": f"{s.fan_out_std:.1f}",
        "dead inputs": str(s.dead_inputs),
    }


def _format_groups(s: GroupStatistics | None) -> dict[str, str]:
    """Format the statistics of groups for the table; nothing for a layer without groups."""
    if s is None:
        return {}
    return {
        "groups × neurons": f"{s.groups} × {s.size}",
        "inputs of any group": str(s.distinct_inputs),
        "overlap of two groups": f"{s.overlap:.3f}",
    }
