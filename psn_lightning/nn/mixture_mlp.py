"""Multilayer perceptron with mixtures of experts in place of its hidden layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from torch import nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.init import InitName
from psn_lightning.nn.mlp import redraw_linear
from psn_lightning.nn.moe import Mixture
from psn_lightning.nn.sparsify import WEIGHT_STREAM


class MixtureMLP(nn.Sequential):
    """Multilayer perceptron whose hidden layers are mixtures of experts, see :class:`MixtureLayer`.

    The modules are ``fc1, norm1, relu1, fc2, …, output``, as in :class:`SparseMLP`. The experts are dense unless
    :func:`sparsify` makes them sparse.

    Args:
        layer_sizes: Number of inputs, hidden widths, number of classes, for example ``[784, 1024, 1024, 10]``.
        mixture: Settings of the mixture layers.
        init: Distribution of the initial weights of experts and output layer, see
            :func:`~psn_lightning.nn.init.initial_values`. Gates start at 0.
        seed: Seed of the initial weights.
        layer_norm: Whether a LayerNorm follows each mixture; otherwise an Identity takes its place.
        init_scale: Factor of the initial weights of the experts.

    Raises:
        SettingError: If a mixture cannot be built, a name is unknown, or ``init_scale`` is not positive.
    """

    storage: ClassVar[Literal["masked"]] = "masked"
    """Storage of the weights, as that of :class:`SparseMLP`."""

    def __init__(
        self,
        layer_sizes: Sequence[int],
        mixture: Mixture,
        init: InitName = "mean_fan_in",
        seed: int = 42,
        layer_norm: bool = True,
        init_scale: float = 1.0,
    ) -> None:
        if not 0 < init_scale < float("inf"):
            raise SettingError(f"init_scale {init_scale} is not a positive number: use 1 for He initialisation (Eq. 9)")
        *hidden, n_classes = layer_sizes
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (n_in, n_out) in enumerate(pairwise(hidden), start=1):
            layer = mixture.make_layer(n_in, n_out)
            rng = np.random.default_rng([seed, WEIGHT_STREAM, i])
            for linear in layer.experts.modules():
                if isinstance(linear, nn.Linear):
                    redraw_linear(linear, init, rng, init_scale)
            modules[f"fc{i}"] = layer
            modules[f"norm{i}"] = nn.LayerNorm(n_out) if layer_norm else nn.Identity()
            modules[f"relu{i}"] = nn.ReLU()
        output = nn.Linear(hidden[-1], n_classes)
        modules["output"] = redraw_linear(output, init, np.random.default_rng([seed, WEIGHT_STREAM, 0]))
        super().__init__(modules)
