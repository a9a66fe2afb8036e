"""The interface of a sparse layer, whatever its storage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from psn_lightning.nn.init import InitName, initial_values
from psn_lightning.topology import Connectivity

_BLOCK = 2**22  # positions handled at a time; fixed, because random growth draws block by block


def blocks_of_neurons(positions: Tensor, n_out: int, n_in: int) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of neurons, small enough for dense matrices, and the connections in each.

    Args:
        positions: As :meth:`SparseLinear.active_positions` gives them.
        n_out: Number of neurons.
        n_in: Number of inputs.

    Yields:
        The block, and its own positions, counted from its first neuron's first input.
    """
    rows = max(1, _BLOCK // n_in)
    for first in range(0, n_out, rows):
        last = min(first + rows, n_out)
        edges = torch.tensor([first * n_in, last * n_in], device=positions.device)
        start, stop = torch.searchsorted(positions, edges).tolist()
        yield slice(first, last), positions[start:stop] - first * n_in


class SparseLinear(nn.Module, ABC):
    """A linear layer of which only the connections of a :class:`Connectivity` exist.

    The gradient of the parameters belongs to the active connections; a dynamic rule that wants to see the
    others sets :attr:`record_dense_gradient` before the forward pass and reads :meth:`dense_gradient`
    after the backward pass. State dicts hold ``values`` (CSR order), ``indptr``, ``indices`` and ``bias``
    whatever the storage, so that a checkpoint of one storage loads into another.

    Args:
        connectivity: Who feeds whom.
        init: How the weights are drawn; biases start at 0.
        rng: Source of the weights.
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, connectivity: Connectivity, init: InitName, rng: np.random.Generator) -> None:
        super().__init__()
        self.in_features = connectivity.n_in
        self.out_features = connectivity.n_out
        self.record_dense_gradient = False
        self.bias = nn.Parameter(torch.zeros(self.out_features))
        values = torch.from_numpy(initial_values(connectivity, init, rng)).to(torch.get_default_dtype())
        self._create(connectivity, values)

    @abstractmethod
    def _create(self, connectivity: Connectivity, values: Tensor) -> None:
        """Make the storage: register ``weight`` and whatever says where it is active."""

    @abstractmethod
    def _load(self, connectivity: Connectivity, values: Tensor) -> None:
        """Overwrite the storage in place with other connections and weights."""

    @property
    @abstractmethod
    def connectivity(self) -> Connectivity:
        """Who feeds whom now."""

    @property
    @abstractmethod
    def fan_in(self) -> Tensor:
        """Inputs of each neuron, int64, shape ``(out_features,)``."""

    @property
    @abstractmethod
    def mask(self) -> Tensor:
        """Dense boolean mask, shape ``(out_features, in_features)``; not to be written to."""

    @abstractmethod
    def active_positions(self) -> Tensor:
        """Flat position ``neuron * in_features + input`` of each connection, ascending, int64."""

    @abstractmethod
    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """Change which connections exist.

        Connections that stay keep their weight and moments; those that go or come have both set to 0.

        Args:
            positions: As :meth:`active_positions` gives them.
            moments: Optimizer tensors laid out like ``weight``; changed in place with it.

        Returns:
            How many connections stay.
        """

    def set_mask(self, mask: Tensor, moments: Iterable[Tensor] = ()) -> None:
        """:meth:`set_active` by a dense boolean mask, shape ``(out_features, in_features)``."""
        self.set_active(mask.flatten().nonzero().squeeze(1), moments)

    @abstractmethod
    def compress(self, moment: Tensor) -> Tensor:
        """An optimizer tensor laid out like ``weight`` as one in CSR order, shape ``(n_connections,)``."""

    @abstractmethod
    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """The opposite of :meth:`compress`, for connections at ``positions``."""

    @abstractmethod
    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """Zero whatever an optimizer may have put where no connection is: weight and moments."""

    @abstractmethod
    def mask_gradient(self) -> None:
        """Zero a recorded dense gradient where no connection is, so that an optimizer may use it."""

    @abstractmethod
    def active_values(self) -> Tensor:
        """Weights of the active connections in CSR order, shape ``(n_connections,)``, detached."""

    @abstractmethod
    def dense_gradient(self, neurons: slice = slice(None)) -> Tensor:
        """Gradient of the loss to every position, connected or not, of a block of neurons.

        Read it in ``on_before_optimizer_step``: there it is accumulated, averaged over processes,
        unscaled and unclipped.

        Args:
            neurons: Which neurons; all by default.

        Returns:
            Shape ``(neurons, in_features)``.

        Raises:
            RuntimeError: If :attr:`record_dense_gradient` was off during the forward pass.
        """

    @abstractmethod
    def gradient_magnitude(self) -> Tensor:
        """Σ |gradient| over the active connections of each neuron, shape ``(out_features,)``."""

    def extra_repr(self) -> str:
        """Shown in the network's printout."""
        return f"{self.in_features}, {self.out_features}, connections={int(self.fan_in.sum())}"

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        connectivity = self.connectivity
        destination[prefix + "in_features"] = torch.tensor(self.in_features)
        destination[prefix + "values"] = self.active_values()
        destination[prefix + "indptr"] = torch.tensor(connectivity.indptr)
        destination[prefix + "indices"] = torch.tensor(connectivity.indices)
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
        names = ("values", "indptr", "indices", "bias")
        absent = [prefix + name for name in names if prefix + name not in state_dict]
        if absent:
            missing_keys.extend(absent)
            return
        values, indptr, indices, bias = (torch.as_tensor(state_dict[prefix + name]) for name in names)
        inputs = int(state_dict.get(prefix + "in_features", self.in_features))  # earlier versions did not keep it
        if inputs != self.in_features:
            error_msgs.append(f"{prefix[:-1]}: the checkpoint has {inputs} inputs, the layer {self.in_features}")
            return
        if values.shape != indices.shape or values.dtype.is_floating_point != self.bias.dtype.is_floating_point:
            error_msgs.append(f"{prefix[:-1]}: {values.numel()} weights of {indices.numel()} connections")
            return
        if indptr.numel() != self.out_features + 1 or bias.shape != self.bias.shape:
            error_msgs.append(
                f"{prefix[:-1]}: the checkpoint has {indptr.numel() - 1} neurons, the layer {self.out_features}"
            )
            return
        try:
            connectivity = Connectivity(
                self.in_features, self.out_features, indptr.cpu().numpy(), indices.cpu().numpy()
            )
        except (ValueError, TypeError) as error:
            error_msgs.append(f"{prefix[:-1]}: {error}")
            return
        with torch.no_grad():
            self._load(connectivity, values)
            self.bias.copy_(bias)
