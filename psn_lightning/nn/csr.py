"""Storage csr: a Linear that stores and multiplies its active weights only, on the CPU."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import unserializable_hook

from psn_lightning.kernels.connections import locate_positions
from psn_lightning.kernels.gathered import add_products_at
from psn_lightning.kernels.structure import Structure
from psn_lightning.kernels.tiled import Stack
from psn_lightning.kernels.workspace import Stage
from psn_lightning.nn.activity import Activity, draw_seed, sum_features
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.processes import average_over_processes, get_world_size
from psn_lightning.nn.states import Connections, make_csr_state, read_connections
from psn_lightning.nn.torch_private import get_backward_id
from psn_lightning.topology import Connectivity

_COMPARED = 2**12  # connections by which a rescaling of the gradient is found
_ROUNDING = 1e-3  # largest relative difference between two ways to compute the same gradient


class CSRLinear(nn.Module, SparseLayer):
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

    storage: ClassVar[Literal["masked", "csr"]] = "csr"
    structure: Structure

    def __init__(self, connectivity: Connectivity, values: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.in_features, self.out_features = connectivity.n_in, connectivity.n_out
        self.weight = nn.Parameter(torch.empty(0, dtype=values.dtype))
        self.bias = None if bias is None else nn.Parameter(bias)  # after the weight: optimizers number parameters
        self.register_buffer("_no_bias", values.new_zeros(0 if bias is not None else self.out_features), False)
        self._records = False
        self._recorded: list[tuple[Tensor, Tensor]] = []
        self._pending: list[tuple[int, Tensor, Tensor]] = []  # records of backward passes that may not reach the weight
        self._grown: Tensor | None = None  # mask of the connections that the latest update grew
        self._hooked: weakref.ref[nn.Parameter] | None = None
        self._stack = Stack([])
        self._replace_connections(connectivity, values)

    def _replace_connections(
        self, connectivity: Connectivity, values: Tensor, blocks: tuple[int, int] | None = None
    ) -> None:
        self._set_structure(connectivity.keys(), blocks)
        self.weight.data = self.structure.from_rows(values.to(self.weight))
        self.weight.grad = None

    @property
    def n_out(self) -> int:
        """Number of neurons."""
        return self.out_features

    @property
    def n_in(self) -> int:
        """Number of inputs of a neuron."""
        return self.in_features

    @property
    def n_connections(self) -> int:
        """Number of active connections."""
        return len(self.weight)

    @property
    def parameter(self) -> nn.Parameter:
        """Weights of the active connections, shape ``(n_connections,)``."""
        return self.weight

    @property
    def record_dense_gradient(self) -> bool:
        """Whether backward passes are recorded for the dense gradient; setting the flag discards earlier records."""
        return self._records

    @record_dense_gradient.setter
    def record_dense_gradient(self, records: bool) -> None:
        self._records = records
        self._recorded, self._pending, self._grown = [], [], None
        if records and (self._hooked is None or self._hooked() is not self.weight):
            self.weight.register_post_accumulate_grad_hook(self._commit)  # type: ignore[no-untyped-call]
            self._hooked = weakref.ref(self.weight)

    def __getstate__(self) -> dict[str, Any]:
        """State without the hook: a copy has its own parameter, which is not hooked yet."""
        return {**self.__dict__, "_hooked": None}

    @property
    def connectivity(self) -> Connectivity:
        """Present connections."""
        indices = self.structure.positions % self.in_features
        return Connectivity(self.in_features, self.out_features, self.structure.indptr, indices)

    @property
    def fan_in(self) -> Tensor:
        """Number of inputs of each neuron, int64, shape ``(n_out,)``."""
        return torch.from_numpy(np.diff(self.structure.indptr))

    @property
    def mask(self) -> Tensor:
        """Boolean mask, shape ``(n_out, n_in)``; built on each access."""
        mask = torch.zeros(self.out_features, self.in_features, dtype=torch.bool)
        mask.view(-1)[self.active_positions()] = True
        return mask

    def extra_repr(self) -> str:
        """Return the sizes shown in the printed module."""
        bias = ", bias=False" if self.bias is None else ""
        return f"{self.in_features}, {self.out_features}, connections={len(self.weight)}{bias}"

    def active_positions(self) -> Tensor:
        """Flat positions of the active connections, ascending, int64, shape ``(n_connections,)``."""
        return torch.from_numpy(self.structure.positions)

    def active_values(self) -> Tensor:
        """Weights of the active connections, shape ``(n_connections,)``, detached."""
        return self.structure.to_rows(self.weight)

    def set_values(self, values: Tensor) -> None:
        """Overwrite the weights of the active connections; see :meth:`SparseLayer.set_values`."""
        self.weight.data = self.structure.from_rows(values.to(self.weight))

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
        if len(positions) != len(self.weight) and get_world_size() > 1:
            raise RuntimeError(
                f"storage csr cannot change its number of connections under DDP ({len(self.weight)} to "
                f"{len(positions)}): use storage masked"
            )
        moments, positions = list(moments), positions.to(torch.int64, copy=True).contiguous()
        gradient, n_before, old = self.weight.grad, len(self.weight), self.structure
        blocks = old.blocks if len(positions) == n_before else None
        found = torch.from_numpy(locate_positions(old.positions, positions.numpy()))
        self._grown = found >= n_before
        # Place of each connection before the change, in the order of the positions; absent ones lie behind the end.
        kind = torch.int32 if n_before < 2**31 - 1 else torch.int64  # of a million neurons, each tensor here counts
        places = torch.cat([old.to_rows(torch.arange(n_before, dtype=kind)), torch.tensor([n_before], dtype=kind)])
        places, self.weight.grad = places[found], None
        del found, old
        # A copy of the network, such as an average of it, is to keep the order of the values that the network has.
        self._set_structure(positions.numpy(), blocks)
        places = self.structure.from_rows(places)
        for tensor in (self.weight, *moments):
            tensor.data = _gather(tensor, places)
        if gradient is not None:
            self.weight.grad = _gather(gradient, places)
        return len(places) - int(self._grown.sum())

    def compress(self, moment: Tensor) -> Tensor:
        """Return an optimizer tensor by active connection; see :meth:`SparseLayer.compress`."""
        return self.structure.to_rows(moment)

    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """Return values of connections in the layout of :attr:`parameter`; see :meth:`SparseLayer.expand`."""
        known = np.array_equal(positions, self.structure.positions)
        structure = self.structure if known else Structure(positions.numpy(), self.n_out, self.n_in)
        return structure.from_rows(moment)

    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """Do nothing: absent connections have no memory."""

    @torch.no_grad()
    def mask_gradient(self) -> None:
        """Fill in the gradient of newly grown connections from the recorded dense gradient."""
        grown, self._grown = self._grown, None
        if not self._recorded or self.weight.grad is None or grown is None or not grown.any():
            return
        positions, gradient = self.active_positions(), self.compress(self.weight.grad)
        new, kept = grown.nonzero().squeeze(1), (~grown).nonzero().squeeze(1)[:_COMPARED]
        computed, compared = self.gradient_at(positions[new]), self.gradient_at(positions[kept])
        square = compared.square().sum()
        ratio = float((gradient[kept] * compared).sum() / square) if square > 0 else 1.0
        # The gradient may have been rescaled after the backward pass (by AMP or a hook): grown connections follow.
        gradient[new] = computed * (ratio if abs(ratio - 1) > _ROUNDING else 1.0)
        self.weight.grad.copy_(self.structure.from_rows(gradient))

    def dense_gradient(self, neurons: slice = slice(None)) -> Tensor:
        """Dense gradient of a block of neurons, averaged over processes; see :meth:`SparseLayer.dense_gradient`."""
        if not self._has_recorded():
            rows = len(range(*neurons.indices(self.n_out)))
            return average_over_processes(torch.zeros(rows, self.n_in, dtype=self.weight.dtype))
        first, *others = (g[neurons] @ x.T for x, g in self._recorded)
        for other in others:
            first += other
        return average_over_processes(first)

    def gradient_at(self, positions: Tensor) -> Tensor:
        """Gradient to given positions, averaged over processes; see :meth:`SparseLayer.gradient_at`."""
        self._has_recorded()
        total = torch.zeros(len(positions), dtype=self.weight.dtype)
        for x, g in self._recorded:
            add_products_at(positions.contiguous().numpy(), x, g, total)
        return average_over_processes(total)

    @property
    def shows_activity(self) -> bool:
        """Whether :meth:`activity` can be computed: always."""
        return True

    def record_activity(self, records: bool) -> None:
        """Do nothing: inputs and gradients are recorded for the dense gradient."""

    def activity(self, generator: torch.Generator | None = None) -> Activity:
        """Sums of inputs and gradients over the rows; see :meth:`SparseLayer.activity`."""
        self._has_recorded()
        zeros = Activity(self.weight.new_zeros(self.n_out), self.weight.new_zeros(1, self.n_in))
        return sum_features(self._recorded, zeros, draw_seed(generator))

    def _has_recorded(self) -> bool:
        """Return whether the layer had a part in the loss of this process; the others wait in the all-reduce.

        Raises:
            RuntimeError: If it had none, and this is the only process.
        """
        if not self._recorded and get_world_size() == 1:
            raise RuntimeError("no dense gradient: set record_dense_gradient = True before the backward pass")
        return bool(self._recorded)

    def gradient_magnitude(self) -> Tensor:
        """Sum of |gradient| over the active connections of each neuron, shape ``(n_out,)``."""
        if self.weight.grad is None:
            raise RuntimeError("no gradient: call gradient_magnitude between backward pass and optimizer step")
        magnitudes, offsets = self.compress(self.weight.grad).abs(), torch.from_numpy(self.structure.indptr)
        return torch.segment_reduce(magnitudes, "sum", offsets=offsets)

    def _record_pass(self, x: Tensor, g: Tensor, n_rows: int) -> None:
        """Record inputs and gradients of a backward pass; see :attr:`Stage.hook`."""
        if self._records:
            if self.weight.grad is None:
                self._recorded = []  # first backward pass of an optimizer step
            inputs = _flatten_tiles(x)
            inputs[:, n_rows:] = 0  # the sums of activity() read inputs without their gradient
            self._pending.append((get_backward_id(), inputs, _flatten_tiles(g)))

    @unserializable_hook  # type: ignore[untyped-decorator]
    def _commit(self, _: Tensor) -> None:
        """Accept the records of this backward pass; called by torch when the gradient has reached the weight."""
        task = get_backward_id()
        self._recorded += [(x, g) for number, x, g in self._pending if number == task]
        self._pending = []

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in make_csr_state(self.connectivity, self.active_values(), self.structure.blocks).items():
            destination[prefix + name] = value
        if self.bias is not None:
            destination[prefix + "bias"] = self.bias if keep_vars else self.bias.detach()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        names = ["values", "indptr", "indices"] if prefix + "weight" not in state_dict else []
        absent = [prefix + name for name in names if prefix + name not in state_dict]
        bias, found = state_dict.get(prefix + "bias"), None
        try:
            if not absent:
                found = read_connections(state_dict, prefix, (self.n_out, self.n_in))
                found = found or self._read_dense_state(state_dict, prefix)
            if self.bias is not None and bias is not None and bias.shape != self.bias.shape:
                raise ValueError(f"bias of shape {tuple(bias.shape)}, expected ({self.n_out},)")
        except ValueError as error:
            error_msgs.append(f"{prefix[:-1]}: {error}")
            return
        missing_keys.extend(absent + ([prefix + "bias"] if self.bias is not None and bias is None else []))
        with torch.no_grad():
            if found is not None:
                self._replace_connections(*found)
            if self.bias is not None and bias is not None:
                self.bias.copy_(bias)

    def _read_dense_state(self, state_dict: dict[str, Any], prefix: str) -> Connections:
        """Read the weights of a dense Linear at the present connections."""
        weight = state_dict[prefix + "weight"]
        if weight.shape != (self.n_out, self.n_in):
            raise ValueError(f"weight of shape {tuple(weight.shape)}, expected {(self.n_out, self.n_in)}")
        return Connections(self.connectivity, weight.flatten()[self.active_positions()])


def _gather(values: Tensor, places: Tensor) -> Tensor:
    """Gather values at given places; 0 for the place behind the end."""
    return torch.cat([values, values.new_zeros(1)]).index_select(0, places)


def _flatten_tiles(tiles: Tensor) -> Tensor:
    """Copy tiles of shape ``(n_tiles, n, width)`` into one matrix of shape ``(n, n_tiles * width)``."""
    return torch.cat(list(tiles), dim=1)
