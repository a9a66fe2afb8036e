"""A sparse layer: the two-dimensional view of one weight, whatever its storage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from psn_lightning.topology import Connectivity

_BLOCK = 2**22  # positions handled at a time; fixed, because random growth draws block by block


def blocks_of_neurons(positions: Tensor, n_out: int, n_in: int) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of neurons, small enough for dense matrices, and the connections in each.

    Args:
        positions: Flat positions in ascending order, see :meth:`SparseLayer.active_positions`.
        n_out: Number of neurons.
        n_in: Number of inputs.

    Yields:
        The block, and the positions in it, counted from its first neuron's first input.
    """
    rows = max(1, _BLOCK // n_in)
    for first in range(0, n_out, rows):
        last = min(first + rows, n_out)
        edges = torch.tensor([first * n_in, last * n_in], device=positions.device)
        start, stop = torch.searchsorted(positions, edges).tolist()
        yield slice(first, last), positions[start:stop] - first * n_in


class SparseLayer(ABC):
    """A view of one sparse weight as a matrix of ``n_out`` neurons and ``n_in`` inputs.

    A convolution's kernel ``(out_channels, in_channels / groups, *kernel)`` is seen with each output channel as a
    neuron and its flattened kernel as the inputs. A connection is named by its flat position
    ``neuron * n_in + input``. Absent connections have weight 0.

    A dynamic rule that needs the gradient to absent connections sets :attr:`record_dense_gradient` before every
    optimizer step whose gradient it wants, and reads :meth:`dense_gradient` after the backward passes.
    """

    storage: ClassVar[Literal["masked", "csr"]]
    """How the weights are kept."""

    @property
    @abstractmethod
    def record_dense_gradient(self) -> bool:
        """Whether the coming backward passes keep the gradient to absent connections."""

    @record_dense_gradient.setter
    @abstractmethod
    def record_dense_gradient(self, records: bool) -> None: ...

    @property
    @abstractmethod
    def n_out(self) -> int:
        """Number of neurons: the weight's first dimension."""

    @property
    @abstractmethod
    def n_in(self) -> int:
        """Number of inputs of a neuron: the product of the weight's other dimensions."""

    @property
    @abstractmethod
    def parameter(self) -> nn.Parameter:
        """The parameter that the optimizer holds; its layout is the storage's."""

    @property
    @abstractmethod
    def connectivity(self) -> Connectivity:
        """The connections as they are now."""

    @property
    @abstractmethod
    def fan_in(self) -> Tensor:
        """Number of inputs of each neuron, int64, shape ``(n_out,)``."""

    @property
    @abstractmethod
    def mask(self) -> Tensor:
        """Boolean mask, shape ``(n_out, n_in)``; not to be written to."""

    @abstractmethod
    def active_positions(self) -> Tensor:
        """Flat position ``neuron * n_in + input`` of each connection, ascending, int64."""

    @abstractmethod
    def active_values(self) -> Tensor:
        """Weights of the connections in the order of their positions, shape ``(n_connections,)``, detached."""

    @abstractmethod
    def set_values(self, values: Tensor) -> None:
        """Overwrite the weights of the connections; ``values`` as :meth:`active_values` returns them."""

    @abstractmethod
    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """Change which connections exist.

        Connections that stay keep their weight and moments; those that go or come have both set to 0.

        Args:
            positions: Flat positions, ascending, int64.
            moments: Optimizer tensors laid out like :attr:`parameter`; changed in place with it.

        Returns:
            Number of connections that stay.
        """

    def set_mask(self, mask: Tensor, moments: Iterable[Tensor] = ()) -> None:
        """:meth:`set_active` by a boolean mask, shape ``(n_out, n_in)``."""
        self.set_active(mask.flatten().nonzero().squeeze(1), moments)

    @abstractmethod
    def compress(self, moment: Tensor) -> Tensor:
        """An optimizer tensor laid out like :attr:`parameter`, in the order of positions: ``(n_connections,)``."""

    @abstractmethod
    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """The opposite of :meth:`compress`, for connections at ``positions``."""

    @abstractmethod
    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """Zero what an optimizer may have written to absent connections: weight and moments."""

    @abstractmethod
    def mask_gradient(self) -> None:
        """Zero a recorded dense gradient at absent connections, so that an optimizer may use it."""

    @abstractmethod
    def dense_gradient(self, neurons: slice = slice(None)) -> Tensor:
        """Gradient of the loss to every position of a block of neurons, connected or not.

        Read between the backward pass and the optimizer step: there it is accumulated over micro-batches and
        averaged over processes. Under DDP every process must call it.

        Args:
            neurons: The block; all neurons by default.

        Returns:
            Shape ``(neurons, n_in)``.

        Raises:
            RuntimeError: If :attr:`record_dense_gradient` was off.
        """

    def attach(self) -> None:  # noqa: B027  # csr has no need of it
        """Have the parameter's gradient masked, where it is not yet: a layer that was frozen, or read from a file."""

    def gradient_at(self, positions: Tensor) -> Tensor:
        """Gradient of the loss to the given positions, connected or not; see :meth:`dense_gradient`.

        Args:
            positions: Flat positions, ascending, int64.

        Returns:
            Same shape.
        """
        blocks = blocks_of_neurons(positions, self.n_out, self.n_in)
        return torch.cat([self.dense_gradient(block).flatten()[own] for block, own in blocks])

    @abstractmethod
    def gradient_magnitude(self) -> Tensor:
        """Σ |gradient| over the connections of each neuron, shape ``(n_out,)``.

        Raises:
            RuntimeError: If there is no gradient.
        """
