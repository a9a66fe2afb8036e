"""Base of the storages that hold active weights only: a Linear whose absent connections have no memory."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import unserializable_hook

from psn_lightning.nn.active_states import find_unexpected, read_layer
from psn_lightning.nn.activity import Activity, draw_seed, sum_features
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.parameter_hook import ParameterHook
from psn_lightning.nn.processes import average_over_processes, get_world_size
from psn_lightning.nn.states import Connections
from psn_lightning.nn.torch_private import get_backward_id
from psn_lightning.topology import Connectivity

_COMPARED = 2**12  # connections by which a rescaling of the gradient is found
_ROUNDING = 1e-3  # largest relative difference between two ways to compute the same gradient


class ActiveLinear(nn.Module, SparseLayer):
    """Linear layer that stores the weights of its active connections only.

    The parameter ``weight`` has shape ``(n_connections,)`` and is in an order of the storage's own;
    :meth:`active_values` and :meth:`compress` are in the order of the flat positions. Growth also needs the gradient to
    absent connections: it is computed on request, block by block, from the inputs and gradients that a recording step
    keeps. State dicts of every storage and of a dense Linear can be loaded.

    Args:
        connectivity: Connections of the layer.
        values: Weights of the connections in CSR order, shape ``(n_connections,)``.
        bias: Bias, shape ``(n_out,)``, or None for a layer without bias.
    """

    def __init__(self, connectivity: Connectivity, values: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.in_features, self.out_features = connectivity.n_in, connectivity.n_out
        self.weight = nn.Parameter(torch.empty(0, dtype=values.dtype, device=values.device))
        self.bias = None if bias is None else nn.Parameter(bias)  # after the weight: optimizers number parameters
        self._records = False
        self._recorded: list[tuple[Tensor, Tensor]] = []
        self._pending: list[tuple[int, Tensor, Tensor]] = []  # records of backward passes that may not reach the weight
        self._grown: Tensor | None = None  # mask of the connections that the latest update grew, by position
        self._hook = ParameterHook(self._commit, "register_post_accumulate_grad_hook")

    def __getstate__(self) -> dict[str, Any]:
        """State without records: a copy that is made while gradients are recorded does not record."""
        return {**self.__dict__, "_records": False, "_recorded": [], "_pending": [], "_grown": None}

    @abstractmethod
    def replace_connections(self, found: Connections) -> None:
        """Replace connections and weights by those of a state dict.

        Args:
            found: Connections and weights.

        Raises:
            ValueError: If the storage cannot hold these connections.
        """

    @abstractmethod
    def make_state(self) -> dict[str, Tensor]:
        """Make the entries of the state dict, but for the bias, with keys without prefix."""

    @abstractmethod
    def from_rows(self, values: Tensor) -> Tensor:
        """Sort values of connections, in the order of the positions, into the order of the parameter."""

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
        if records:
            self._hook.attach(self.weight)

    @property
    def mask(self) -> Tensor:
        """Boolean mask, shape ``(n_out, n_in)``; built on each access."""
        positions = self.active_positions()
        mask = torch.zeros(self.out_features, self.in_features, dtype=torch.bool, device=positions.device)
        mask.view(-1).index_fill_(0, positions, True)
        return mask

    def extra_repr(self) -> str:
        """Return the sizes shown in the printed module."""
        bias = ", bias=False" if self.bias is None else ""
        return f"{self.in_features}, {self.out_features}, connections={len(self.weight)}{bias}"

    def active_values(self) -> Tensor:
        """Weights of the active connections, shape ``(n_connections,)``, detached."""
        return self.compress(self.weight.detach())

    def set_values(self, values: Tensor) -> None:
        """Overwrite the weights of the active connections; see :meth:`SparseLayer.set_values`."""
        overwrite(self.weight, self.from_rows(values.to(self.weight)))

    def check_count(self, count: int) -> None:
        """Check that an update may give the layer a number of connections.

        Args:
            count: Number of connections after the update.

        Raises:
            RuntimeError: If the number changes under DDP, whose buckets have a fixed size.
        """
        if count != len(self.weight) and get_world_size() > 1:
            raise RuntimeError(
                f"storage {self.storage} cannot change its number of connections under DDP ({len(self.weight)} to "
                f"{count}): use storage masked"
            )

    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """Do nothing: absent connections have no memory."""

    @torch.no_grad()
    def mask_gradient(self) -> None:
        """Fill in the gradient of newly grown connections from the recorded dense gradient."""
        grown, self._grown = self._grown, None
        if grown is None or not grown.any() or self.weight.grad is None:
            return
        if not self._recorded and get_world_size() == 1:  # of several processes all have to average, see gradient_at
            return
        positions, gradient = self.active_positions(), self.compress(self.weight.grad)
        new, kept = grown.nonzero().squeeze(1), (~grown).nonzero().squeeze(1)[:_COMPARED]
        computed, compared = self.gradient_at(positions[new]), self.gradient_at(positions[kept])
        square = compared.square().sum()
        ratio = float((gradient[kept] * compared).sum() / square) if square > 0 else 1.0
        # The gradient may have been rescaled after the backward pass (by AMP or a hook): grown connections follow.
        gradient[new] = computed * (ratio if abs(ratio - 1) > _ROUNDING else 1.0)
        self.weight.grad.copy_(self.from_rows(gradient))

    def dense_gradient(self, neurons: slice | Tensor = slice(None)) -> Tensor:
        """Dense gradient of a block of neurons, averaged over processes; see :meth:`SparseLayer.dense_gradient`."""
        if not self._has_recorded():
            rows = len(neurons) if isinstance(neurons, Tensor) else len(range(*neurons.indices(self.n_out)))
            return average_over_processes(self.weight.new_zeros(rows, self.n_in))
        first, *others = ((g[neurons] @ x.T).to(self.weight.dtype) for x, g in self._recorded)
        for other in others:
            first += other
        return average_over_processes(first)

    def gradient_at(self, positions: Tensor) -> Tensor:
        """Gradient to given positions, averaged over processes; see :meth:`SparseLayer.gradient_at`."""
        self._has_recorded()
        total = self.weight.new_zeros(len(positions))
        for x, g in self._recorded:
            self.add_products_at(positions, x, g, total)
        return average_over_processes(total)

    @abstractmethod
    def add_products_at(self, positions: Tensor, x: Tensor, g: Tensor, total: Tensor) -> None:
        """Add the gradient of a recorded pass to given positions, ``total[k] += g[neuron] · x[input]``.

        Args:
            positions: Flat positions, ascending, int64, shape ``(n,)``.
            x: Inputs by feature, shape ``(n_in, rows)``.
            g: Gradients to the output by neuron, shape ``(n_out, rows)``.
            total: Sums, shape ``(n,)``.
        """

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
        fan_in = self.fan_in
        offsets = torch.zeros(self.n_out + 1, dtype=torch.int64, device=fan_in.device)
        torch.cumsum(fan_in, 0, out=offsets[1:])
        return torch.segment_reduce(self.compress(self.weight.grad).abs(), "sum", offsets=offsets)

    def keep_pass(self, x: Tensor, g: Tensor) -> None:
        """Keep inputs and gradients of a backward pass until it is known whether it reaches the weight.

        Args:
            x: Inputs by feature, shape ``(n_in, rows)``.
            g: Gradients to the output by neuron, shape ``(n_out, rows)``.
        """
        if self.weight.grad is None:
            self._recorded = []  # first backward pass of an optimizer step
        self._pending.append((get_backward_id(), x, g))

    @unserializable_hook  # type: ignore[untyped-decorator]
    def _commit(self, _: Tensor) -> None:
        """Accept the records of this backward pass; called by torch when the gradient has reached the weight."""
        task = get_backward_id()
        self._recorded += [(x, g) for number, x, g in self._pending if number == task]
        self._pending = []

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, value in self.make_state().items():
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
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        if strict:
            unexpected_keys.extend(find_unexpected(state_dict, prefix, self.bias is not None))
        try:
            found, bias = read_layer(state_dict, prefix, self, self.bias, missing_keys)
            with torch.no_grad():
                if found is not None:
                    self.replace_connections(found)
                if self.bias is not None and bias is not None:
                    self.bias.copy_(bias)
        except ValueError as error:
            error_msgs.append(f"{prefix[:-1]}: {error}")


@torch.no_grad()
def overwrite(tensor: Tensor, values: Tensor) -> None:
    """Overwrite a tensor, in place unless its size changes."""
    if tensor.shape == values.shape:
        tensor.copy_(values)
    else:
        tensor.data = values
