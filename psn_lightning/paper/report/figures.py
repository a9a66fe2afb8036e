"""Figures of the paper, drawn from the record; figures without runs are left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure

from psn_lightning.paper.report.claim_figures import effects_figure, noise_figure
from psn_lightning.paper.report.equilibrium_figures import law_figure, settled_figure, share_figure, variants_figure
from psn_lightning.paper.report.heterogeneity_figures import accuracy_figure, gradient_figure, multipeak_figure
from psn_lightning.paper.report.law import fits
from psn_lightning.paper.report.method_figures import draw_methods
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.settled_layers import layers
from psn_lightning.paper.report.start_figures import curves_figure, growth_figure, starts_figure, trajectories_figure
from psn_lightning.paper.report.static_figures import profiles_figure, sparsity_figure, static_figure
from psn_lightning.paper.report.verdicts import Claim

mpl.use("Agg")


@dataclass(frozen=True)
class Picture:
    """Figure with its caption."""

    name: str
    """Name of the file, without suffix."""
    caption: str
    """Caption, in plain text."""
    figure: Figure
    """Matplotlib figure."""


def pictures(runs: Runs, claims: Sequence[Claim]) -> Iterator[Picture]:
    """Draw all figures that have runs: over all claims, then in the order of the paper.

    Args:
        runs: Recorded runs.
        claims: Claims with their verdicts.
    """
    effects, noise = effects_figure(claims), noise_figure(runs)
    if effects is not None:
        yield Picture("effects", "Effect of every claim about a difference: ours, and the paper's.", effects)
    if noise is not None:
        yield Picture("noise", "Noise between seeds by estimator, and from epoch to epoch within a run.", noise)
    yield Picture("profiles", "Fan-in of the profiles and a mask, 784 → 1024 at 90%.", profiles_figure())
    for name, reproduction, caption, draw in _PICTURES:
        own = runs.of(reproduction)
        if own:
            yield Picture(name, caption, draw(own))
    if runs.of("equilibrium-combinations"):
        caption = "Table 4, every cell: canonical RigL, and RigL whose growth does not see absent connections."
        yield Picture("settled", caption, settled_figure(runs))
    if runs.of("equilibrium") or runs.of("table4"):
        caption = "Table 4 against √(1 − q) of the two-level bound under ERK's allocation, q fitted to each data set."
        yield Picture("share-of-bound", caption, share_figure(runs))
    yield from (Picture(*drawn) for drawn in draw_methods(runs))
    measured = layers(runs)
    if fits(measured):
        yield Picture(
            "law",
            "Where canonical RigL ended in every layer, and the law that predicts networks left out.",
            law_figure(measured),
        )


_PICTURES: list[tuple[str, str, str, Callable[[Runs], Figure]]] = [
    (
        "static-linear",
        "static-linear",
        "Static profiles at 90%, nn.Linear's scale: difference to random, 95% interval; green: ± the margin.",
        static_figure,
    ),
    (
        "static",
        "static",
        "Static profiles at 90%, Eq. 9's scale: difference to random, 95% interval; green: ± the margin.",
        static_figure,
    ),
    ("sparsity", "mnist-sparsity", "Accuracy against sparsity on MNIST, 95% intervals.", sparsity_figure),
    ("multipeak", "multipeak", "Figure 2: multi-peak profiles, from one hub cluster to uniformity.", multipeak_figure),
    (
        "accuracy-over-ccv",
        "multipeak",
        "Multi-peak profiles: accuracy against fan-in CCV, regression with seed as block and its 95% band.",
        accuracy_figure,
    ),
    ("gradient", "gradient", "Gradient ratio against fan-in CCV.", gradient_figure),
    (
        "trajectories",
        "equilibrium",
        "Fan-in CCV over RigL's epochs, mean over the layers, by start.",
        trajectories_figure,
    ),
    (
        "variants",
        "equilibrium-variants",
        "What each choice of an implementation makes of the CCV at 90%.",
        variants_figure,
    ),
    ("curves", "fashion-10-seeds", "Training curves of RigL from two starts, and where they cross.", curves_figure),
    (
        "growth",
        "starts",
        "RigL's starts at 90% under two growth rules, nn.Linear's scale: difference to ERK, 95% interval.",
        growth_figure,
    ),
    ("starts", "rigl-init", "Figure 3: RigL's starts against sparsity, 95% intervals.", starts_figure),
]
"""Name of the file, reproduction, caption and drawing function of each figure."""
