"""The network of the paper: sparse hidden layers, LayerNorm, ReLU, a dense output layer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.init import InitName, initial_values
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.masked import MaskedLayer
from psn_lightning.nn.sparsify import WEIGHT_STREAM
from psn_lightning.nn.storages import StorageName, csr_linear, empty_linear, resolve
from psn_lightning.nn.weights import ignore_masks, sparse_layers
from psn_lightning.topology import Connectivity, SpreadingName, Topology


class SparseMLP(nn.Sequential):
    """``n_in – hidden … – n_classes``; every Linear has a bias, every hidden one LayerNorm and ReLU.

    The modules are ``fc1, norm1, relu1, fc2, …, output``; a dense baseline is sparsity 0. With storage csr and
    LayerNorm all layers are computed as one, without calling the modules: hooks on them are called only after
    :attr:`fused` is set to False.

    Args:
        layer_sizes: Inputs, hidden widths, classes: ``[784, 1024, 1024, 10]``.
        topology: Topology of the hidden layers.
        spreading: Which inputs a neuron reads, given how many.
        init: Distribution of the first weights.
        storage: How the sparse weights are kept: masked, csr or auto; :attr:`storage` says what it became.
        seed: Seed of topology and weights.
        layer_norm: Whether the hidden layers are normalised; where not, an Identity stands in LayerNorm's place.
        init_scale: Factor of the hidden layers' first weights.

    Raises:
        SettingError: If the topology cannot be built, or a name is unknown.
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        topology: Topology,
        spreading: SpreadingName = "random",
        init: InitName = "mean_fan_in",
        storage: StorageName = "masked",
        seed: int = 42,
        layer_norm: bool = True,
        init_scale: float = 1.0,
    ) -> None:
        if not 0 < init_scale < float("inf"):
            raise SettingError(f"init_scale {init_scale} must be a positive number: 1 is Eq. 9")
        resolved = resolve(storage, topology.sparsity)
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        connectivities = topology.connect(layer_sizes, spreading, seed)
        for i, connectivity in enumerate(connectivities, start=1):
            values = init_scale * initial_values(connectivity, init, self._rng(seed, i))
            modules[f"fc{i}"] = _sparse_linear(connectivity, torch.from_numpy(values), resolved)
            modules[f"norm{i}"] = nn.LayerNorm(connectivity.n_out) if layer_norm else nn.Identity()
            modules[f"relu{i}"] = nn.ReLU()
        modules["output"] = self._output(layer_sizes[-2], layer_sizes[-1], self._rng(seed, 0))
        super().__init__(modules)
        self.storage = resolved
        ignore_masks(self)
        self._as_one = self._computed_as_one() if resolved == "csr" and layer_norm else None
        self._may_fuse = True
        self._built = tuple(self)

    @property
    def fused(self) -> bool:
        """Whether all layers are computed as one; may be set to False, for hooks on single modules.

        It is False, too, once a module was replaced, added or removed.
        """
        return self._may_fuse and self._as_one is not None and tuple(self) == self._built

    @fused.setter
    def fused(self, fused: bool) -> None:
        self._may_fuse = fused

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, n_classes)`` of ``(batch, n_in)``."""
        if self.fused and self._as_one is not None:
            return self._as_one(x)
        return super().forward(x)  # type: ignore[no-any-return,no-untyped-call]

    def _computed_as_one(self) -> Callable[[Tensor], Tensor]:
        from psn_lightning.nn.csr import CSRNetwork

        *hidden, output = self
        return CSRNetwork(list(zip(hidden[0::3], hidden[1::3], strict=True)), output)  # type: ignore[arg-type]

    @staticmethod
    def _rng(seed: int, layer: int) -> np.random.Generator:
        return np.random.default_rng([seed, WEIGHT_STREAM, layer])

    @staticmethod
    def _output(n_in: int, n_classes: int, rng: np.random.Generator) -> nn.Linear:
        """A dense layer initialised as Eq. 9 would: its mean fan-in is n_in."""
        layer = nn.Linear(n_in, n_classes)
        weight = initial_values(Connectivity.full(n_in, n_classes), "mean_fan_in", rng).reshape(n_classes, n_in)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.zero_()
        return layer

    def sparse_layers(self) -> dict[str, SparseLayer]:
        """The hidden layers by name, ``fc1`` first."""
        return sparse_layers(self)

    def connectivities(self) -> dict[str, Connectivity]:
        """The connections as they are now, by hidden layer."""
        return {name: layer.connectivity for name, layer in self.sparse_layers().items()}


def _sparse_linear(connectivity: Connectivity, values: Tensor, storage: Literal["csr", "masked"]) -> nn.Module:
    """A Linear with these connections and weights, and a bias of zeros."""
    values = values.to(torch.get_default_dtype())
    if storage == "csr":
        return csr_linear(connectivity, values, torch.zeros(connectivity.n_out))
    linear = empty_linear(connectivity.n_in, connectivity.n_out)
    with torch.no_grad():
        linear.bias.zero_()
    MaskedLayer(linear, "weight", connectivity).set_values(values)
    return linear
