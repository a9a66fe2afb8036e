"""The network of the paper: sparse hidden layers, LayerNorm, ReLU, a dense output layer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from psn_lightning.errors import SettingError
from psn_lightning.nn.init import InitName, initial_values
from psn_lightning.nn.sparse_linear import SparseLinear
from psn_lightning.nn.storages import StorageName, at_once, layer_class, resolve
from psn_lightning.topology import Connectivity, SpreadingName, Topology

_WEIGHT_STREAM = 1_000_003  # keeps the weights' random streams apart from the topology's


class SparseMLP(nn.Sequential):
    """``n_in – hidden … – n_classes``; every Linear has a bias, every hidden one LayerNorm and ReLU.

    The modules are ``fc1, norm1, relu1, fc2, …, output``; a dense baseline is sparsity 0.

    Args:
        layer_sizes: Inputs, hidden widths, classes: ``[784, 1024, 1024, 10]``.
        topology: What is asked of the hidden layers.
        spreading: Which inputs a neuron reads, given how many.
        init: How the weights are drawn.
        storage: How the sparse weights are kept: masked, csr or auto; :attr:`storage` says what it became.
        seed: Seed of topology and weights.
        layer_norm: Whether the hidden layers are normalised; without, something does nothing in the place of LayerNorm.
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
            modules[f"fc{i}"] = layer_class(resolved)(connectivity, init, self._rng(seed, i))
            modules[f"norm{i}"] = nn.LayerNorm(connectivity.n_out) if layer_norm else nn.Identity()
            modules[f"relu{i}"] = nn.ReLU()
        modules["output"] = self._output(layer_sizes[-2], layer_sizes[-1], self._rng(seed, 0))
        super().__init__(modules)
        for layer in self.sparse_layers().values():
            layer.weight.data *= init_scale
        self.storage = resolved
        *hidden, output = self
        self._at_once = at_once(resolved, hidden[0::3], hidden[1::3], output) if layer_norm else None
        self._built = tuple(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(batch, n_classes)`` of ``(batch, n_in)``.

        csr computes all layers at once, unless a hook wants to see one of them or a module was replaced.
        """
        as_built = tuple(self) == self._built and not any(map(_is_watched, self))
        if self._at_once is None or not as_built or _has_any_global_hook():  # type: ignore[no-untyped-call]
            return super().forward(x)  # type: ignore[no-any-return,no-untyped-call]
        return self._at_once(x)

    @staticmethod
    def _rng(seed: int, layer: int) -> np.random.Generator:
        return np.random.default_rng([seed, _WEIGHT_STREAM, layer])

    @staticmethod
    def _output(n_in: int, n_classes: int, rng: np.random.Generator) -> nn.Linear:
        """A dense layer initialised as Eq. 9 would: its mean fan-in is n_in."""
        layer = nn.Linear(n_in, n_classes)
        weight = initial_values(Connectivity.full(n_in, n_classes), "mean_fan_in", rng).reshape(n_classes, n_in)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.zero_()
        return layer

    def sparse_layers(self) -> dict[str, SparseLinear]:
        """The hidden layers by name, ``fc1`` first."""
        return {name: module for name, module in self.named_children() if isinstance(module, SparseLinear)}

    def connectivities(self) -> dict[str, Connectivity]:
        """Who feeds whom now, by hidden layer."""
        return {name: layer.connectivity for name, layer in self.sparse_layers().items()}


def _is_watched(module: nn.Module) -> bool:
    """Whether calling the module does more than its class does."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in vars(module)
