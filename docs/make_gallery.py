"""Draws docs/profiles.png, the gallery of profiles in the README: ``python docs/make_gallery.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from psn_lightning.figure_style import save_figure, styled
from psn_lightning.topology import (
    Bell,
    Bernoulli,
    Exponential,
    FanIn,
    LayerBudget,
    Linear,
    Lognormal,
    MultiPeak,
    PowerLaw,
    Quadratic,
    Uniform,
)
from psn_lightning.topology.scaling import coefficient_of_variation

GALLERY: dict[str, FanIn] = {
    "Linear": Linear(),
    "Linear, inverse": Linear(inverse=True),
    "Uniform": Uniform(),
    "Quadratic": Quadratic(),
    "Quadratic, inverse": Quadratic(inverse=True),
    "Bernoulli": Bernoulli(),
    "Exponential": Exponential(),
    "Exponential, inverse": Exponential(inverse=True),
    "PowerLaw, ccv 1.0": PowerLaw(1.0),
    "Bell": Bell(),
    "Bell, inverse": Bell(inverse=True),
    "MultiPeak, 5 peaks": MultiPeak(5),
    "Lognormal, ccv 1.0": Lognormal(1.0),
    "Lognormal, ccv 2.5": Lognormal(2.5),
    "MultiPeak, 1 peak": MultiPeak(1),
}


@styled
def main() -> None:
    """Draw the fan-in of every family at 90% sparsity with 784 inputs and 1,024 neurons, seed 42."""
    budget = LayerBudget(n_in=784, n_out=1024, sparsity=0.9)
    figure = Figure(figsize=(6.4, 6.8), layout="constrained")
    axes = figure.subplots(5, 3, sharex=True).ravel()
    for axis, (name, family) in zip(axes, GALLERY.items(), strict=True):
        fan_in = family.fan_in(budget, np.random.default_rng(42))
        axis.fill_between(np.arange(budget.n_out), fan_in, step="mid", alpha=0.8, linewidth=0)
        described = f"CCV {coefficient_of_variation(fan_in):.2f}, {fan_in.min()} … {fan_in.max()}"
        axis.set_title(f"{name}\n{described}", size=9, linespacing=1.1)
        axis.tick_params(labelsize=9)
        axis.set_xticks([0, 500, 1000])
        axis.set_ylim(0, None)
    figure.supxlabel("neuron")
    figure.supylabel("fan-in")
    save_figure(figure, Path(__file__).parent / "profiles.png")


if __name__ == "__main__":
    main()
