"""Storage csr: a Linear that stores and multiplies its active weights only, on the CPU."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from psn_lightning.kernels.gathered import add_products_at
from psn_lightning.kernels.moves import match_connections, take
from psn_lightning.kernels.structure import Structure
from psn_lightning.kernels.tiled import Stack
from psn_lightning.kernels.workspace import Stage
from psn_lightning.nn.active import ActiveLinear
from psn_lightning.nn.layer import StorageKind
from psn_lightning.nn.sharing import find_pairs
from psn_lightning.nn.states import Connections, keep_groups, make_active_state
from psn_lightning.topology import Connectivity


class CSRLinear(ActiveLinear):
    """Linear layer that stores the weights of its active connections only.

    The parameter ``weight`` has shape ``(n_connections,)`` and is in the order in which the kernels read it, see
    :class:`~psn_lightning.kernels.structure.Structure`; :meth:`active_values` and :meth:`compress` are in the order of
    the flat positions. Growth also needs the gradient to absent connections: it is computed on request, block by
    block, from the activations and gradients that a recording step keeps. State dicts hold ``values``, ``indptr``,
    ``indices``, ``in_features`` and ``blocks``; state dicts of a masked or a dense Linear can be loaded as well.

    Args:
        connectivity: Connections of the layer.
        values: Weights of the connections in CSR order, shape ``(n_connections,)``.
        bias: Bias, shape ``(n_out,)``, or None for a layer without bias.
    """

    storage: StorageKind = "csr"
    structure: Structure

    def __init__(self, connectivity: Connectivity, values: Tensor, bias: Tensor | None) -> None:
        super().__init__(connectivity, values, bias)
        self.register_buffer("_no_bias", values.new_zeros(0 if bias is not None else self.out_features), False)
        self._stack = Stack([])
        self._groups: Tensor | None = None
        self.replace_connections(Connections(connectivity, values))

    def replace_connections(self, found: Connections) -> None:
        """Replace connections and weights; see :meth:`ActiveLinear.replace_connections`."""
        groups = keep_groups(found.connectivity, self._groups).groups
        self._groups = None if groups is None else torch.tensor(groups)
        self._set_structure(found.connectivity.keys(), found.blocks)
        self.set_values(found.values)
        self.weight.grad = None

    @property
    def groups(self) -> Tensor | None:
        """Group of each neuron, where neurons share their inputs; see :attr:`SparseLayer.groups`."""
        return self._groups

    @property
    def connectivity(self) -> Connectivity:
        """Present connections."""
        indices = self.structure.positions % self.in_features
        groups = None if self._groups is None else self._groups.numpy()
        return Connectivity(self.in_features, self.out_features, self.structure.indptr, indices, groups)

    @property
    def fan_in(self) -> Tensor:
        """Number of inputs of each neuron, int64, shape ``(n_out,)``."""
        return torch.from_numpy(np.diff(self.structure.indptr))

    def active_positions(self) -> Tensor:
        """Flat positions of the active connections, ascending, int64, shape ``(n_connections,)``."""
        return torch.from_numpy(self.structure.positions)

    def forward(self, x: Tensor) -> Tensor:
        """Map an input of shape ``(…, in_features)`` to an output of shape ``(…, out_features)``."""
        y: Tensor = self._stack(x, [self.weight, self._no_bias if self.bias is None else self.bias])
        return y

    def stage(self, norm: nn.LayerNorm | None = None) -> Stage:
        """Describe the layer for the csr kernels.

        Args:
            norm: LayerNorm that follows the layer and is itself followed by a ReLU; None where neither follows.
        """
        return Stage(self.structure, None if norm is None else norm.eps, self._record_pass)

    def _set_structure(self, positions: NDArray[np.int64], blocks: tuple[int, int] | None = None) -> None:
        self.structure = Structure(positions, self.out_features, self.in_features, blocks)
        self._stack.connect([self.stage()])

    @torch.no_grad()
    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """Change which connections are active; see :meth:`SparseLayer.set_active`.

        A gradient that waits for its optimizer step is moved together with the weights.

        Raises:
            RuntimeError: If the number of connections changes under DDP, whose buckets have a fixed size.
        """
        self.check_count(len(positions))
        if self._groups is not None and find_pairs(positions, self._groups, self.n_in) is None:
            self._groups = None
        moments, positions = list(moments), positions.to(torch.int64, copy=True).contiguous()
        gradient, old = self.weight.grad, self.structure
        # A copy of the network, such as an average of it, is to keep the order of the values that the network has.
        blocks = old.blocks if len(positions) == len(self.weight) else None
        self._set_structure(positions.numpy(), blocks)
        places, is_new = match_connections(old, self.structure)
        old.release()
        self._grown, self.weight.grad = torch.from_numpy(is_new), None
        for tensor in (self.weight, *moments):
            tensor.data = take(tensor, places)
        if gradient is not None:
            self.weight.grad = take(gradient, places)
        return len(places) - int(is_new.sum())

    def compress(self, moment: Tensor) -> Tensor:
        """Return an optimizer tensor by active connection; see :meth:`SparseLayer.compress`."""
        return self.structure.to_rows(moment)

    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """Return values of connections in the layout of :attr:`parameter`; see :meth:`SparseLayer.expand`."""
        known = np.array_equal(positions, self.structure.positions)
        structure = self.structure if known else Structure(positions.numpy(), self.n_out, self.n_in)
        return structure.from_rows(moment)

    def from_rows(self, values: Tensor) -> Tensor:
        """Sort values in the order of the positions into the order of the parameter."""
        return self.structure.from_rows(values)

    def add_products_at(self, positions: Tensor, x: Tensor, g: Tensor, total: Tensor) -> None:
        """Add a gradient to given positions; see :meth:`ActiveLinear.add_products_at`."""
        add_products_at(positions.contiguous().numpy(), x, g, total)

    def make_state(self) -> dict[str, Tensor]:
        """Make the entries of the state dict; see :meth:`ActiveLinear.make_state`."""
        return make_active_state(self.connectivity, self.active_values(), self.structure.blocks)

    def _record_pass(self, x: Tensor, g: Tensor, n_rows: int) -> None:
        """Record inputs and gradients of a backward pass; see :attr:`Stage.hook`."""
        if self._records:
            inputs = _flatten_tiles(x)
            inputs[:, n_rows:] = 0  # the sums of activity() read inputs without their gradient
            self.keep_pass(inputs, _flatten_tiles(g))


def _flatten_tiles(tiles: Tensor) -> Tensor:
    """Copy tiles of shape ``(n_tiles, n, width)`` into one matrix of shape ``(n, n_tiles * width)``."""
    return torch.cat(list(tiles), dim=1)
