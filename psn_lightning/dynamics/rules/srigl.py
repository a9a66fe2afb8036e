"""SRigL: RigL with a constant fan-in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from torch import Tensor

from psn_lightning.dynamics.rules.rigl import RigLRule
from psn_lightning.dynamics.rules.rule import StructuredRule
from psn_lightning.dynamics.views import LayerState
from psn_lightning.errors import SettingError


class SRigLRule(RigLRule, StructuredRule):
    """SRigL: RigL with constant fan-in and neuron ablation (Lasby et al., 2024, arXiv 2305.02299, section 3).

    The *salient* connections of a neuron are those that RigL would give it: the survivors of the drop and those with
    the largest gradients. A neuron with fewer than ``gamma_sal * k`` salient connections, where k is the fan-in that
    the layer's budget gives every neuron, is ablated: its connections go to the other neurons. A later update may
    revive it. The fan-in of the remaining neurons is equal and rounded down, so that the layer never has more
    connections than at the start of the run.

    Args:
        gamma_sal: Share of k below which a neuron is ablated (γ_sal), in [0, 1]; 0 ablates no neuron.

    Raises:
        SettingError: If ``gamma_sal`` is not in [0, 1].
    """

    keeps_count = False  # the fan-in is rounded down

    def __init__(self, gamma_sal: float = 0.3) -> None:
        if not 0 <= gamma_sal <= 1:
            raise SettingError(f"gamma_sal {gamma_sal} is not in [0, 1]: 0 ablates no neuron")
        self.gamma_sal = gamma_sal

    def check(self, layers: Mapping[str, LayerState]) -> None:
        """Check that each layer has at least one connection per neuron, which a constant fan-in needs."""
        for name, layer in layers.items():
            if layer.n_initial < layer.n_out:
                raise SettingError(
                    f"{name}: SRigL needs a fan-in of at least 1, but {layer.n_initial} connections are fewer than "
                    f"{layer.n_out} neurons: lower the sparsity"
                )

    def fan_in(self, count_salient: Callable[[], Tensor], layer: LayerState) -> Tensor:
        """Equal fan-in for the neurons that stay, 0 for ablated neurons."""
        # a float product may be a little above the integer that the decimal number gives: 0.55 · 100
        threshold = math.ceil(Fraction(str(self.gamma_sal)) * (layer.n_initial // layer.n_out))
        fewest = -(-layer.n_initial // layer.n_in)  # fewer neurons have no room for all connections
        salient = count_salient()
        stays = salient >= threshold
        if int(stays.sum()) < fewest:
            stays[salient.argsort(descending=True, stable=True)[:fewest]] = True
        return stays * (layer.n_initial // int(stays.sum()))
