"""Storage groups: a Linear whose neurons share their inputs in groups, computed by batched products; any device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from psn_lightning.errors import SettingError
from psn_lightning.nn.active import ActiveLinear, overwrite
from psn_lightning.nn.group_products import multiply
from psn_lightning.nn.group_structure import GroupStructure
from psn_lightning.nn.layer import StorageKind
from psn_lightning.nn.processes import average_over_processes
from psn_lightning.nn.sharing import expand_pairs, find_pairs
from psn_lightning.nn.states import Connections, keep_groups, make_active_state
from psn_lightning.topology import Connectivity

_AT_ONCE = 2**22  # products that gradient_at holds at once


class GroupedLinear(ActiveLinear):
    """Linear layer whose neurons share their inputs in groups; it stores the weights of its active connections only.

    The parameter ``weight`` is in the order of group, input and neuron, see
    :class:`~psn_lightning.nn.group_structure.GroupStructure`. Inputs and outputs are computed feature by feature: the
    output is the transpose of a contiguous tensor, and an input that is one, such as the output of another such layer
    after an activation, is not copied. State dicts hold ``values``, ``indptr``, ``indices``, ``in_features`` and
    ``groups``.

    Args:
        connectivity: Connections of the layer, with groups.
        values: Weights of the connections in CSR order, shape ``(n_connections,)``.
        bias: Bias, shape ``(n_out,)``, or None for a layer without bias.

    Raises:
        ValueError: If the connectivity has no groups.
    """

    storage: StorageKind = "groups"

    def __init__(self, connectivity: Connectivity, values: Tensor, bias: Tensor | None) -> None:
        super().__init__(connectivity, values, bias)
        self.structure = _make_structure(connectivity, values.device)
        self.set_values(values)

    def replace_connections(self, found: Connections) -> None:
        """Replace connections and weights; see :meth:`ActiveLinear.replace_connections`."""
        connectivity = keep_groups(found.connectivity, self.structure.groups)
        self.structure = _make_structure(connectivity, self.weight.device)
        self.set_values(found.values)
        self.weight.grad = None

    @property
    def groups(self) -> Tensor:
        """Group of each neuron, int64, shape ``(n_out,)``."""
        return self.structure.groups

    @property
    def connectivity(self) -> Connectivity:
        """Present connections."""
        pairs = self.structure.pairs.cpu().numpy()
        grid = Connectivity.from_fan_in(self.n_in, self.structure.fan_in.cpu().numpy(), pairs % self.n_in)
        return Connectivity.from_grid(grid, self.groups.cpu().numpy())

    @property
    def fan_in(self) -> Tensor:
        """Number of inputs of each neuron, int64, shape ``(n_out,)``."""
        return self.structure.fan_in[self.groups]

    def active_positions(self) -> Tensor:
        """Flat positions of the active connections, ascending, int64, shape ``(n_connections,)``."""
        return self.structure.positions()[0]

    def compress(self, moment: Tensor) -> Tensor:
        """Return an optimizer tensor by active connection; see :meth:`SparseLayer.compress`."""
        return moment[self.structure.positions()[1].to(moment.device)]

    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """Return values of connections in the layout of :attr:`parameter`; see :meth:`SparseLayer.expand`.

        Raises:
            ValueError: If neurons of a group differ in their inputs at these positions.
        """
        groups = self.groups.to(positions.device)
        pairs = find_pairs(positions, groups, self.n_in)
        if pairs is None:
            raise ValueError("neurons of one group have different inputs")
        return _to_places(moment, GroupStructure(groups, self.n_in, pairs))

    def from_rows(self, values: Tensor) -> Tensor:
        """Sort values in the order of the positions into the order of the parameter."""
        return _to_places(values, self.structure)

    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """Change which connections are active; see :meth:`SparseLayer.set_active`.

        A gradient that waits for its optimizer step is moved together with the weights.

        Raises:
            SettingError: If neurons of a group would differ in their inputs.
            RuntimeError: If the number of connections changes under DDP, whose buckets have a fixed size.
        """
        pairs = find_pairs(positions, self.groups, self.n_in)
        if pairs is None:
            raise SettingError(
                "storage groups needs neurons that share their inputs in groups, but these connections differ within "
                "a group: change whole groups, or use storage masked or csr"
            )
        return self.set_pairs(pairs, moments)

    @torch.no_grad()
    def set_pairs(self, pairs: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """Change which pairs of a group and an input are active; see :meth:`set_active`.

        Args:
            pairs: Pairs, ascending, int64.
            moments: Optimizer tensors in the layout of :attr:`parameter`.

        Returns:
            Number of connections that stay active.
        """
        old, size = self.structure.pairs, self.structure.size
        self.check_count(len(pairs) * size)
        places = torch.searchsorted(old, pairs)
        stays = functional.pad(old, (0, 1), value=-1)[places] == pairs
        rows = places.masked_fill(~stays, len(old))
        gradient, self.weight.grad = self.weight.grad, None
        self.structure.set_pairs(pairs)
        for tensor in (self.weight, *moments):
            overwrite(tensor, _gather_rows(tensor.detach(), rows, size))
        if gradient is not None:
            self.weight.grad = _gather_rows(gradient, rows, size)
        self._grown = self.compress((~stays).repeat_interleave(size))
        return int(stays.sum()) * size

    def gradient_at_pairs(self, pairs: Tensor) -> Tensor:
        """Gradient of the loss to given pairs of a group and an input; see :meth:`SparseLayer.gradient_at`.

        Args:
            pairs: Pairs, active or absent, ascending, int64, shape ``(n,)``.

        Returns:
            Gradient for each neuron of the group, shape ``(n, size)``.

        Raises:
            RuntimeError: If :attr:`record_dense_gradient` was False during the backward pass.
        """
        self._has_recorded()
        total = self.weight.new_zeros(len(pairs), self.structure.size)
        wanted = GroupStructure(self.groups, self.n_in, pairs)
        for x, g in self._recorded:
            total += wanted.solve("w", x, g).to(total.dtype)
        return average_over_processes(total)

    def forward(self, x: Tensor) -> Tensor:
        """Map an input of shape ``(…, in_features)`` to an output of shape ``(…, out_features)``."""
        weight: Tensor = self.weight
        if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:  # torch leaves float64 alone
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
        if torch.compiler.is_exporting():
            return self._multiply_densely(x, weight)
        rows = x.reshape(-1, self.in_features).T.contiguous()
        y = multiply(weight.view(-1, self.structure.size), rows, self.structure)
        if self._records:
            self._watch(rows, y)
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)[:, None]
        return y.T.view(*x.shape[:-1], self.out_features)

    def _multiply_densely(self, x: Tensor, weight: Tensor) -> Tensor:
        """Compute the output with a dense weight, by operators that every program of ``torch.export`` may have."""
        positions = expand_pairs(self.structure.pairs, self.structure.neurons, self.in_features).flatten()
        dense = weight.new_zeros(self.out_features * self.in_features).index_copy(0, positions, weight)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return functional.linear(x, dense.view(self.out_features, self.in_features), bias)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _watch(self, x: Tensor, y: Tensor) -> None:
        """Keep inputs and gradients of the backward passes that reach an output."""
        if y.requires_grad:
            inputs = x.detach()
            y.register_hook(lambda gradient: self.keep_pass(inputs, gradient.detach()))  # type: ignore[no-untyped-call]

    def make_state(self) -> dict[str, Tensor]:
        """Make the entries of the state dict; see :meth:`ActiveLinear.make_state`."""
        return make_active_state(self.connectivity, self.active_values())

    def add_products_at(self, positions: Tensor, x: Tensor, g: Tensor, total: Tensor) -> None:
        """Add a gradient to given positions; see :meth:`ActiveLinear.add_products_at`."""
        step = max(1, _AT_ONCE // max(1, x.shape[1]))
        for first in range(0, len(positions), step):
            own = slice(first, first + step)
            neurons, inputs = positions[own] // self.n_in, positions[own] % self.n_in
            total[own] += (g[neurons] * x[inputs]).sum(dim=1, dtype=total.dtype)


def _make_structure(connectivity: Connectivity, device: torch.device) -> GroupStructure:
    if connectivity.groups is None:
        raise ValueError("storage groups needs neurons that share their inputs in groups")
    groups, pairs = torch.tensor(connectivity.groups), torch.tensor(connectivity.grid().keys())
    return GroupStructure(groups, connectivity.n_in, pairs).to(device)


def _to_places(values: Tensor, structure: GroupStructure) -> Tensor:
    """Sort values in the order of the positions into the order of the parameter."""
    places = structure.positions()[1].to(values.device)
    return torch.empty_like(values).index_copy_(0, places, values)


def _gather_rows(values: Tensor, rows: Tensor, size: int) -> Tensor:
    """Gather rows of ``size`` values; zeros for the row behind the end."""
    table = torch.cat([values.view(-1, size), values.new_zeros(1, size)])
    return table.index_select(0, rows).flatten()
