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
    "Quadratic": Quadratic(),
    "Exponential": Exponential(),
    "Bell": Bell(),
    "Linear, inverse": Linear(inverse=True),
    "Quadratic, inverse": Quadratic(inverse=True),
    "Exponential, inverse": Exponential(inverse=True),
    "Bell, inverse": Bell(inverse=True),
    "Lognormal, ccv 1.0": Lognormal(1.0),
    "Lognormal, ccv 2.5": Lognormal(2.5),
    "PowerLaw, ccv 1.0": PowerLaw(1.0),
    "MultiPeak, 5 peaks": MultiPeak(5),
    "MultiPeak, 1 peak": MultiPeak(1),
    "Uniform": Uniform(),
    "Bernoulli": Bernoulli(),
}


@styled
def main() -> None:
    """Draw the fan-in of every family at 90% sparsity with 784 inputs and 1,024 neurons, seed 42."""
    budget = LayerBudget(n_in=784, n_out=1024, sparsity=0.9)
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    axes = figure.subplots(3, 5, sharex=True).ravel()
    for axis, (name, family) in zip(axes, GALLERY.items(), strict=True):
        fan_in = family.fan_in(budget, np.random.default_rng(42))
        axis.fill_between(np.arange(budget.n_out), fan_in, step="mid", alpha=0.8, linewidth=0)
        axis.set_title(
            f"{name}\nCCV {coefficient_of_variation(fan_in):.2f}, fan-in {fan_in.min()} … {fan_in.max()}", size=9
        )
        axis.set_ylim(0, None)
    figure.supxlabel("neuron")
    figure.supylabel("fan-in")
    save_figure(figure, Path(__file__).parent / "profiles.png", dpi=100)


if __name__ == "__main__":
    main()
