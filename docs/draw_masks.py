"""Draws docs/masks.png, the first mask of every method in docs/methods.md: ``python docs/draw_masks.py``.

It trains 784–1024–1024–10 at 90% sparsity with each method of ``conf/reproduce/methods.yaml`` for a few epochs, on the
protocol of that file otherwise. That takes some minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from psn_lightning.figure_style import save_figure, styled
from psn_lightning.paper.reproduction import cells_of, load, plan_for
from psn_lightning.sweeps.launchers import fork_context
from psn_lightning.sweeps.space import apply_settings, decode_settings
from psn_lightning.sweeps.trials import run_fit
from psn_lightning.topology.scaling import coefficient_of_variation

SPARSITY, SEED = 0.9, 42
FOLDER = Path(__file__).parent


def main() -> None:
    """Train, and draw one small picture for each method: neurons by fan-in downwards, pixels as they come."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each method; default: 4")
    parser.add_argument("--out", type=Path, default=FOLDER / "masks.png", help="figure; default: docs/masks.png")
    options = parser.parse_args()
    reproduction = load("methods")
    plan = plan_for("methods", reproduction, "fashion")
    cells = [cell for cell, _ in cells_of(reproduction, "fashion").values() if cell["model.sparsity"] == SPARSITY]
    configs = {cell["method"]: apply_settings(plan.config, decode_settings(cell, plan.space)) for cell in cells}
    del configs["dense"]
    with ProcessPoolExecutor(1, fork_context(), max_tasks_per_child=1) as pool:  # one fit per process
        masks = pool.map(train, configs.values(), [options.epochs] * len(configs))
        draw(dict(zip(configs, masks, strict=True)), options.out)


def train(config: dict[str, Any], epochs: int) -> NDArray[np.bool_]:
    """Train and return the mask of the first layer, shape (neurons, inputs)."""
    config = {**config, "seed_everything": SEED}
    stays = len(config["trainer"]["callbacks"]) == 1  # the study's own: nothing changes the mask
    with tempfile.TemporaryDirectory() as folder:
        config["trainer"] |= {"max_epochs": epochs, "limit_val_batches": 0, "enable_progress_bar": False}
        config["trainer"] |= {"max_epochs": 1, "limit_train_batches": 1} if stays else {}
        config["trainer"] |= {"logger": False, "enable_checkpointing": False, "default_root_dir": folder}
        cli = run_fit(config)
    mask: NDArray[np.bool_] = cli.model.network.connectivities()["fc1"].mask()
    return mask


@styled
def draw(masks: dict[str, NDArray[np.bool_]], path: Path) -> None:
    """Draw masks as small multiples, neurons sorted by fan-in.

    A dot is 8 neurons and 4 pixels; it is brightest where half of its connections or more are there.
    """
    columns = 3
    rows = -(-len(masks) // columns)
    figure = Figure(figsize=(6.4, 1.75 * rows), layout="constrained")
    axes = figure.subplots(rows, columns).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, mask) in zip(axes, masks.items(), strict=False):
        fan_in, fan_out = mask.sum(axis=1), mask.sum(axis=0)
        order = np.argsort(-fan_in, kind="stable")
        share = mask[order].reshape(128, 8, 196, 4).mean(axis=(1, 3))
        axis.imshow(share, cmap="magma", vmin=0, vmax=0.5, aspect="auto", interpolation="nearest")
        ccv = f"CCV {coefficient_of_variation(fan_in):.2f}, {coefficient_of_variation(fan_out):.2f}"
        axis.set_title(f"{name}\n{ccv}, dead {(fan_in == 0).sum()}", size=9)
    save_figure(figure, path, dpi=100)


if __name__ == "__main__":
    main()
