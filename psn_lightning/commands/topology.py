"""``psn-train topology``: look at a topology without training it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from psn_lightning.errors import SettingError
from psn_lightning.figures import topology_figure
from psn_lightning.task import SparseClassifier
from psn_lightning.topology.statistics import realised_sparsity, summarize


def show(model: SparseClassifier, figure_path: str) -> None:
    """Print fan-in statistics per hidden layer and draw profile, mask and fan-out.

    Args:
        model: The model whose topology is shown.
        figure_path: Where the figure goes; its suffix chooses the format.

    Raises:
        SettingError: If the figure cannot be written.
    """
    layers = model.network.connectivities()
    target = model.hparams["sparsity"]
    title = f"target sparsity {target:g}, realised {realised_sparsity(layers.values()):.4f}"
    names = ("shape", "connections", "sparsity", "fan-in mean", "min", "max", "CCV", "Gini", "fan-out", "std", "dead inputs")
    table = Table("layer", *names, title=title)
    for name, connectivity in layers.items():
        s = summarize(connectivity)
        table.add_row(
            name,
            f"{s.n_in}→{s.n_out}",
            f"{s.connections:,}",
            f"{s.sparsity:.4f}",
            f"{s.fan_in_mean:.2f}",
            str(s.fan_in_min),
            str(s.fan_in_max),
            f"{s.fan_in_ccv:.3f}",
            f"{s.fan_in_gini:.3f}",
            f"{s.fan_out_min}…{s.fan_out_max}",
            f"{s.fan_out_std:.1f}",
            str(s.dead_inputs),
        )
    console = Console()
    console.print(table)
    path = Path(figure_path)
    try:
        topology_figure(layers).savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise SettingError(f"--figure {path} cannot be written ({error}); name a .png, .svg or .pdf elsewhere") from error
    console.print(f"Profile, mask and fan-out: {path}", highlight=False)
