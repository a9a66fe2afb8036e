"""GSE: grows where the gradient is largest among positions that are drawn at random."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from psn_lightning.dynamics.pairs import draw_pairs
from psn_lightning.dynamics.rules.rigl import RigLRule
from psn_lightning.dynamics.views import LayerState, Pool, Update
from psn_lightning.errors import SettingError
from psn_lightning.nn.activity import Activity

DistributionName = Literal["uniform", "grabo", "graest"]


class GSERule(RigLRule):
    """Guided stochastic exploration (Heddes et al., 2024, arXiv 2401.06898, section 3).

    Of each layer γ times as many pairs of a neuron and an input are drawn as it has connections, with replacement;
    pairs that are active, or drawn before, are left out. The absent ones with the largest |gradient| are grown, and as
    many of the connections before with the smallest |weight| are dropped. If fewer are left than the schedule asks for,
    fewer are exchanged. A layer in which γ times the connections are all the absent positions is searched whole.

    Neuron i and input j are drawn independently of each other, with gradients δ to the neurons and inputs h of the
    rows b of the batch: ``uniform``, all alike; ``grabo`` (gradient bound), in proportion to Σ_b |δ_bi| and Σ_b |h_bj|;
    ``graest`` (gradient estimate), in proportion to the magnitudes of Σ_b ε_b δ_bi and Σ_b ε_b h_bj, with random signs
    ε. The authors' code compares the connections of all layers with each other; here every layer keeps its number.

    Args:
        distribution: Distribution of the pairs: ``uniform``, ``grabo`` or ``graest``.
        candidates: Pairs to draw, as a multiple of the connections (γ), above 0.

    Raises:
        SettingError: If the distribution is unknown, or ``candidates`` is not positive.
    """

    may_return = False

    def __init__(self, distribution: DistributionName = "grabo", candidates: float = 1.0) -> None:
        if distribution not in get_args(DistributionName):
            raise SettingError(f"distribution {distribution!r} is not one of {', '.join(get_args(DistributionName))}")
        super().__init__(candidates)
        self.distribution = distribution
        self.needs_activity = distribution != "uniform"

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to exchange, at most as many as are absent.

        Args:
            layer: Sizes of the layer.
            update: Size and time of the update.
        """
        n = min(super().counts(layer, update)[0], layer.n_positions - layer.n_active)
        return n, n

    def draw_candidates(self, pool: Pool, count: int, generator: torch.Generator) -> Tensor:
        """Draw pairs of a neuron and an input, and leave out those that are taken.

        Args:
            pool: Absent positions of the layer.
            count: Number of pairs to draw.
            generator: Random generator on the CPU, in the same state on every process.
        """
        if self.distribution == "uniform":
            activity = Activity(torch.ones(pool.layer.n_out), torch.ones(1, pool.layer.n_in))
        else:
            activity = pool.activity(generator if self.distribution == "graest" else None)
        return draw_pairs(activity, pool.taken, count, generator)
