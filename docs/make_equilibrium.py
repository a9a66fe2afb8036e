"""Draws the figures of docs/equilibrium.md from results/runs.jsonl: ``python docs/make_equilibrium.py``."""

from pathlib import Path

from psn_lightning.paper.record import read
from psn_lightning.paper.report.equilibrium_figures import law_figure, settled_figure, share_figure
from psn_lightning.paper.report.law import layers
from psn_lightning.paper.report.runs import Runs

HERE = Path(__file__).parent


def main() -> None:
    """Draw the figures into the folder of this script."""
    runs = Runs(read(HERE.parent / "results" / "runs.jsonl").values())
    settled_figure(runs).savefig(HERE / "equilibrium.png", dpi=110)
    share_figure(runs).savefig(HERE / "equilibrium_bound.png", dpi=110)
    law_figure(layers(runs)).savefig(HERE / "equilibrium_law.png", dpi=110)


if __name__ == "__main__":
    main()
