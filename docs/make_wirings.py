"""Draws docs/wirings.png and prints the tables of docs/wirings.md: ``python docs/make_wirings.py``."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from psn_lightning.figure_style import save_figure, styled
from psn_lightning.nn.init import InitName, initial_values
from psn_lightning.topology import (
    Bernoulli,
    BlockSparse,
    Connectivity,
    Dendritic,
    Diagonals,
    FanIn,
    LayerBudget,
    Lognormal,
    Orthogonal,
    ReceptiveField,
    ScaleFree,
    SmallWorld,
    Uniform,
    Wiring,
    as_wiring,
    connect_layer,
)
from psn_lightning.topology.scaling import coefficient_of_variation

DRAWN: dict[str, FanIn | Wiring] = {
    "Uniform (a family)": Uniform(),
    "ReceptiveField, r 0.25": ReceptiveField(),
    "ReceptiveField, r 0.5": ReceptiveField(0.5),
    "SmallWorld, β 0.1": SmallWorld(),
    "ScaleFree": ScaleFree(),
    "Dendritic": Dendritic(),
    "Dendritic, Lognormal": Dendritic(width=0.4, degree=Lognormal(1.0)),
    "BlockSparse, random": BlockSparse(8),
    "BlockSparse, SmallWorld": BlockSparse(8, SmallWorld()),
    "Orthogonal": Orthogonal(),
    "Diagonals": Diagonals(),
    "Diagonals, even": Diagonals("even"),
}

MEASURED: dict[str, FanIn | Wiring] = {
    "`Uniform`, a family": Uniform(),
    "`Bernoulli`, a family": Bernoulli(),
    "`ReceptiveField`": ReceptiveField(),
    "`SmallWorld`": SmallWorld(),
    "`ScaleFree`": ScaleFree(),
    "`Dendritic`": Dendritic(),
    "`BlockSparse`": BlockSparse(),
    "`BlockSparse(layout=SmallWorld())`": BlockSparse(layout=SmallWorld()),
    "`Orthogonal`": Orthogonal(),
    "`Diagonals`": Diagonals(),
}

SEEDS = range(5)


def connect(topology: FanIn | Wiring, budget: LayerBudget, seed: int) -> Connectivity:
    """Connect a layer."""
    return connect_layer(as_wiring(topology, "random"), budget, np.random.default_rng(seed)).connectivity


@styled
def draw() -> Figure:
    """Draw the mask of every wiring with 128 inputs and 96 neurons at 90%, seed 42."""
    budget = LayerBudget(n_in=128, n_out=96, sparsity=0.9)
    figure = Figure(figsize=(6.4, 7.6), layout="constrained")
    for axis, (name, topology) in zip(figure.subplots(4, 3).ravel(), DRAWN.items(), strict=True):
        connectivity = connect(topology, budget, 42)
        axis.imshow(~connectivity.mask(), cmap="gray", interpolation="nearest")
        ccv = coefficient_of_variation(connectivity.fan_in), coefficient_of_variation(connectivity.fan_out)
        axis.set_title(f"{name}\nCCV {ccv[0]:.2f}, {ccv[1]:.2f}", size=9)
        axis.set(xticks=[], yticks=[])
    figure.supxlabel("input")
    figure.supylabel("neuron")
    return figure


def print_table() -> None:
    """Print the CCV of fan-in and fan-out of every wiring with 784 inputs and 1,024 neurons, means of five seeds."""
    print("| wiring | fan-in, 90% | fan-out, 90% | fan-in, 98% | fan-out, 98% |\n|---|---|---|---|---|")
    for name, topology in MEASURED.items():
        cells = []
        for sparsity in (0.9, 0.98):
            masks = [connect(topology, LayerBudget(784, 1024, sparsity), seed) for seed in SEEDS]
            cells += [np.mean([coefficient_of_variation(mask.fan_in) for mask in masks])]
            cells += [np.mean([coefficient_of_variation(mask.fan_out) for mask in masks])]
        print(f"| {name} |", " | ".join(f"{cell:.2f}" for cell in cells), "|")


def residual(connectivity: Connectivity, init: InitName) -> float:
    """‖W Wᵀ − 2 I‖ of initial weights, or ‖Wᵀ W − 2 I‖ of a tall layer, Frobenius norm."""
    weight = np.zeros((connectivity.n_out, connectivity.n_in))
    weight[connectivity.mask()] = initial_values(connectivity, init, np.random.default_rng(42))
    weight = weight.T if connectivity.n_out > connectivity.n_in else weight
    return float(np.linalg.norm(weight @ weight.T - 2 * np.eye(len(weight))))


def print_isometry() -> None:
    """Print how near to an isometry the weights of uniform masks come, and the seconds it takes, seed 42."""
    print("\n| layer | sparsity | `mean_fan_in` | `isometry` | seconds |\n|---|---|---|---|---|")
    for n_in in (784, 1024):
        for sparsity in (0.9, 0.98):
            mask = connect(Uniform(), LayerBudget(n_in, 1024, sparsity), 42)
            start = time.perf_counter()
            found = residual(mask, "isometry")
            seconds = time.perf_counter() - start
            drawn = residual(mask, "mean_fan_in")
            print(f"| {n_in} → 1024 | {sparsity:.0%} | {drawn:.2f} | {found:.2f} | {seconds:.0f} |")


def print_silent_neurons() -> None:
    """Print how many of 1,024 neurons begin with weights of 0 only in an orthogonal layer, means of five seeds."""
    print("\n| `Orthogonal` | 90% | 98% |\n|---|---|---|")
    for n_in in (784, 1024):
        cells = []
        for sparsity in (0.9, 0.98):
            budget = LayerBudget(n_in, 1024, sparsity)
            made = [Orthogonal().connect(budget, np.random.default_rng(seed)) for seed in SEEDS]
            sums = [np.add.reduceat(np.abs(m.values), m.connectivity.indptr[:-1]) for m in made]
            cells.append(np.mean([(total == 0).sum() for total in sums]))
        print(f"| {n_in} → 1024 |", " | ".join(f"{cell:.0f}" for cell in cells), "|")


def main() -> None:
    """Draw the figure and print the tables."""
    warnings.filterwarnings("ignore", ".*in whole blocks")
    save_figure(draw(), Path(__file__).parent / "wirings.png")
    print_table()
    print_silent_neurons()
    print_isometry()


if __name__ == "__main__":
    main()
