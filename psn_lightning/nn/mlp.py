"""Multilayer perceptron of arXiv 2604.10560: sparse hidden layers with LayerNorm and ReLU, and a dense output layer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.init import DEFAULT_INIT, InitName, check_init, initial_values
from psn_lightning.nn.layer import SparseLayer, StorageKind
from psn_lightning.nn.masked import MaskedLayer
from psn_lightning.nn.sparsify import WEIGHT_STREAM
from psn_lightning.nn.storages import (
    StorageName,
    check_storage,
    make_active_linear,
    make_empty_linear,
    resolve_storage,
)
from psn_lightning.nn.weights import ignore_masks, sparse_layers
from psn_lightning.topology import Connectivity, SpreadingName, Topology


class SparseMLP(nn.Sequential):
    """Multilayer perceptron with sparse hidden layers.

    The modules are ``fc1, norm1, relu1, fc2, …, output``. Every Linear has a bias; a dense baseline has sparsity 0.
    With storage csr and LayerNorm all layers are computed in one pass, without calling the modules: forward and
    backward hooks of single modules run only if :attr:`fused` is set to False.

    Args:
        layer_sizes: Number of inputs, hidden widths, number of classes, for example ``[784, 1024, 1024, 10]``.
        topology: Topology of the hidden layers.
        spreading: Choice of the inputs of a neuron with given fan-in: ``random``, ``even`` or ``sequential``; not with
            a wiring, which chooses them itself.
        init: Distribution of the initial weights, see :func:`~psn_lightning.nn.init.initial_values`; only of the output
            layer with a wiring that brings weights.
        storage: Storage of the sparse weights: ``masked``, ``csr``, ``groups`` or ``auto``. The attribute ``storage``
            holds the resolved name.
        seed: Seed of topology and initial weights.
        layer_norm: Whether a LayerNorm follows each hidden layer; otherwise an Identity takes its place.
        init_scale: Factor of the initial weights of the hidden layers.

    Raises:
        SettingError: If the topology cannot be built, a name is unknown, a setting has no effect, or ``init_scale`` is
            not positive.
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        topology: Topology,
        spreading: SpreadingName = "random",
        init: InitName = DEFAULT_INIT,
        storage: StorageName = "masked",
        seed: int = 42,
        layer_norm: bool = True,
        init_scale: float = 1.0,
    ) -> None:
        if not 0 < init_scale < float("inf"):
            raise SettingError(f"init_scale {init_scale} is not a positive number: use 1 for He initialisation (Eq. 9)")
        check_storage(storage)
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        layers = topology.wire(layer_sizes, spreading, seed)
        names = {f"fc{i}": layer.connectivity for i, layer in enumerate(layers, start=1)}
        resolved = resolve_storage(storage, topology.sparsity, layers=names)
        if init != DEFAULT_INIT:
            check_init(init, layers)
        for i, (connectivity, values) in enumerate(layers, start=1):
            if values is None:
                values = initial_values(connectivity, init, self._make_rng(seed, i))
            modules[f"fc{i}"] = _make_sparse_linear(connectivity, torch.from_numpy(init_scale * values), resolved)
            modules[f"norm{i}"] = nn.LayerNorm(connectivity.n_out) if layer_norm else nn.Identity()
            modules[f"relu{i}"] = nn.ReLU()
        output = nn.Linear(layer_sizes[-2], layer_sizes[-1])
        modules["output"] = redraw_linear(output, init, self._make_rng(seed, 0))
        super().__init__(modules)
        self.storage = resolved
        ignore_masks(self)
        self._as_one = self._fuse_layers() if resolved == "csr" and layer_norm else None
        self._may_fuse = True
        self._built = tuple(self)

    @property
    def fused(self) -> bool:
        """Whether all layers are computed in one pass; set it to False to have hooks of single modules called.

        Always False with storage masked, without LayerNorm, and after a module was replaced, added or removed.
        """
        return self._may_fuse and self._as_one is not None and tuple(self) == self._built

    @fused.setter
    def fused(self, fused: bool) -> None:
        self._may_fuse = fused

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits of shape ``(batch, n_classes)`` from an input of shape ``(batch, n_in)``."""
        if self.fused and self._as_one is not None:
            return self._as_one(x)
        return super().forward(x)  # type: ignore[no-any-return,no-untyped-call]

    def _fuse_layers(self) -> Callable[[Tensor], Tensor]:
        from psn_lightning.nn.csr_network import CSRNetwork

        *hidden, output = self
        return CSRNetwork(list(zip(hidden[0::3], hidden[1::3], strict=True)), output)  # type: ignore[arg-type]

    @staticmethod
    def _make_rng(seed: int, layer: int) -> np.random.Generator:
        return np.random.default_rng([seed, WEIGHT_STREAM, layer])

    def sparse_layers(self) -> dict[str, SparseLayer]:
        """Return the hidden layers by name, ``fc1`` first."""
        return sparse_layers(self)

    def connectivities(self) -> dict[str, Connectivity]:
        """Return the present connections of the hidden layers by name."""
        return {name: layer.connectivity for name, layer in self.sparse_layers().items()}


def redraw_linear(linear: nn.Linear, init: InitName, rng: np.random.Generator, scale: float = 1.0) -> nn.Linear:
    """Draw new weights of a dense layer, in place, and set its bias to 0; every neuron has all inputs.

    Args:
        linear: Layer with a bias.
        init: Distribution of the weights, see :func:`~psn_lightning.nn.init.initial_values`.
        rng: Random generator.
        scale: Factor of the weights.

    Returns:
        The same layer.
    """
    n_out, n_in = linear.weight.shape
    weight = scale * initial_values(Connectivity.full(n_in, n_out), init, rng).reshape(n_out, n_in)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.zero_()
    return linear


def _make_sparse_linear(connectivity: Connectivity, values: Tensor, storage: StorageKind) -> nn.Module:
    """Make a Linear with given connections and weights, and a bias of zeros."""
    values = values.to(torch.get_default_dtype())
    if storage != "masked":
        return make_active_linear(storage, connectivity, values, torch.zeros(connectivity.n_out))
    linear = make_empty_linear(connectivity.n_in, connectivity.n_out)
    with torch.no_grad():
        linear.bias.zero_()
    MaskedLayer(linear, "weight", connectivity).set_values(values)
    return linear
