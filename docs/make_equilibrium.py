"""Draws the figures of docs/equilibrium.md from results/runs.jsonl: ``python docs/make_equilibrium.py``."""

from pathlib import Path

from psn_lightning.figure_style import save_figure
from psn_lightning.paper.record import read
from psn_lightning.paper.report.equilibrium_figures import law_figure, settled_figure, share_figure
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.settled_layers import layers
from psn_lightning.paper.report.start_figures import growth_figure

HERE = Path(__file__).parent


def main() -> None:
    """Draw the figures into the folder of this script."""
    runs = Runs(read(HERE.parent / "results" / "runs.jsonl").values())
    save_figure(settled_figure(runs), HERE / "equilibrium.png")
    save_figure(share_figure(runs), HERE / "equilibrium_bound.png")
    save_figure(law_figure(layers(runs)), HERE / "equilibrium_law.png")
    save_figure(growth_figure(runs.of("starts")), HERE / "equilibrium_starts.png")


if __name__ == "__main__":
    main()
