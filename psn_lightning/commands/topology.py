"""``psn-train topology``: look at a topology without training it."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
from rich.console import Console
from rich.table import Table

from psn_lightning.callbacks.recording import connectivities
from psn_lightning.callbacks.sparsify import sparsify_first
from psn_lightning.commands.topology_figures import topology_figure
from psn_lightning.errors import SettingError
from psn_lightning.files import atomically
from psn_lightning.task import SparseClassifier
from psn_lightning.topology.statistics import LayerStatistics, realised_sparsity, summarize


def show_topology(model: pl.LightningModule, trainer: pl.Trainer, figure_path: str) -> None:
    """Print fan-in statistics per sparse layer and draw profile, mask and fan-out.

    Args:
        model: The model whose topology is shown.
        trainer: Whose callback :class:`Sparsify`, if it has one, makes the model sparse.
        figure_path: Where the figure goes; its suffix chooses the format.

    Raises:
        SettingError: If the figure cannot be written.
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
    columns = [_cells(summarize(connectivity)) for connectivity in layers.values()]
    for figure in columns[0]:
        table.add_row(figure, *(column[figure] for column in columns))
    console = Console()
    console.print(table)
    path = Path(figure_path)
    try:
        with atomically(path) as scratch:
            topology_figure(layers).savefig(scratch, dpi=120)
    except (OSError, ValueError) as error:
        raise SettingError(
            f"--figure {path} cannot be written ({error}); name a .png, .svg or .pdf elsewhere"
        ) from error
    console.print(f"Profile, mask and fan-out: {path}", highlight=False)


def _cells(s: LayerStatistics) -> dict[str, str]:
    """Figures of one layer, as they are shown."""
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
