"""Interface of a sparse layer: the view of one weight as a matrix, for every storage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from psn_lightning.nn.activity import Activity
from psn_lightning.topology import Connectivity

StorageKind = Literal["masked", "csr", "groups"]
"""Storages of a sparse weight."""


class SparseLayer(ABC):
    """View of one sparse weight as a matrix of ``n_out`` neurons and ``n_in`` inputs.

    In the kernel of a convolution, ``(out_channels, in_channels / groups, *kernel)``, each output channel is a neuron
    and its flattened kernel the inputs. A connection is identified by its flat position ``neuron * n_in + input``.
    Absent connections have weight 0.

    A dynamic rule that needs the gradient to absent connections sets :attr:`record_dense_gradient` before an
    optimizer step, and reads :meth:`dense_gradient` after the backward passes of that step.
    """

    storage: StorageKind
    """Storage of the weights."""
    n_candidates: int | None = None
    """Number of absent positions whose gradient a rule reads while it is recorded; None is all of them."""

    @property
    @abstractmethod
    def record_dense_gradient(self) -> bool:
        """Whether backward passes keep the gradient to absent connections."""

    @record_dense_gradient.setter
    @abstractmethod
    def record_dense_gradient(self, records: bool) -> None: ...

    @property
    @abstractmethod
    def n_out(self) -> int:
        """Number of neurons: the first dimension of the weight."""

    @property
    @abstractmethod
    def n_in(self) -> int:
        """Number of inputs of a neuron: the product of the other dimensions of the weight."""

    @property
    def groups(self) -> Tensor | None:
        """Group of each neuron where neurons share their inputs in groups, int64, shape ``(n_out,)``; else None.

        Rules then drop and grow pairs of a group and an input, see :class:`~psn_lightning.nn.group_view.GroupView`.
        """
        return None

    @property
    @abstractmethod
    def n_connections(self) -> int:
        """Number of active connections; counted once after each change, so it may be read in every step."""

    def count_connections(self) -> int | Tensor:
        """Count the active connections; a scalar on the device where reading :attr:`n_connections` would wait."""
        return self.n_connections

    def count_gradients(self) -> int | Tensor:
        """Count the positions whose gradient a step needs: active connections, and the candidates of a rule."""
        if not self.record_dense_gradient:
            return self.n_connections
        size = self.n_out * self.n_in
        return size if self.n_candidates is None else min(size, self.n_connections + self.n_candidates)

    @property
    @abstractmethod
    def parameter(self) -> nn.Parameter:
        """Parameter that the optimizer holds; masked: shape of the weight, others: ``(n_connections,)``."""

    @property
    @abstractmethod
    def connectivity(self) -> Connectivity:
        """Present connections."""

    @property
    @abstractmethod
    def fan_in(self) -> Tensor:
        """Number of inputs of each neuron, int64, shape ``(n_out,)``."""

    @property
    @abstractmethod
    def mask(self) -> Tensor:
        """Boolean mask, shape ``(n_out, n_in)``; read-only, change it with :meth:`set_mask`."""

    @abstractmethod
    def active_positions(self) -> Tensor:
        """Flat positions ``neuron * n_in + input`` of the active connections, ascending, int64."""

    @abstractmethod
    def active_values(self) -> Tensor:
        """Weights of the active connections in the order of their positions, shape ``(n_connections,)``, detached."""

    @abstractmethod
    def set_values(self, values: Tensor) -> None:
        """Overwrite the weights of the active connections.

        Args:
            values: Weights in the order of :meth:`active_positions`, shape ``(n_connections,)``.
        """

    @abstractmethod
    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """Change which connections are active.

        Connections that stay active keep their weight and moments; dropped and grown connections get 0 for both.

        Args:
            positions: Flat positions of the active connections, ascending, int64, shape ``(n_connections,)``.
            moments: Optimizer tensors in the layout of :attr:`parameter`; changed in place together with it.

        Returns:
            Number of connections that stay active.
        """

    def set_mask(self, mask: Tensor, moments: Iterable[Tensor] = ()) -> None:
        """Change which connections are active; see :meth:`set_active`.

        Args:
            mask: Boolean mask, shape ``(n_out, n_in)``.
            moments: Optimizer tensors in the layout of :attr:`parameter`.
        """
        self.set_active(mask.flatten().nonzero().squeeze(1), moments)

    @abstractmethod
    def compress(self, moment: Tensor) -> Tensor:
        """Gather an optimizer tensor by active connection.

        Args:
            moment: Tensor in the layout of :attr:`parameter`.

        Returns:
            Elements in the order of :meth:`active_positions`, shape ``(n_connections,)``.
        """

    @abstractmethod
    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """Scatter values of connections into the layout of :attr:`parameter`; the inverse of :meth:`compress`.

        Args:
            moment: One value for each connection, shape ``(n_connections,)``.
            positions: Flat positions of these connections, ascending, int64, same shape.
        """

    @abstractmethod
    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """Set weight and moments of absent connections to 0, whatever an optimizer has written there.

        Args:
            moments: Optimizer tensors in the layout of :attr:`parameter`.
        """

    @abstractmethod
    def mask_gradient(self) -> None:
        """Set a recorded dense gradient to 0 at absent connections, so that an optimizer step leaves them at 0."""

    @abstractmethod
    def dense_gradient(self, neurons: slice | Tensor = slice(None)) -> Tensor:
        """Gradient of the loss to all positions, active or absent, of some neurons.

        Valid between backward pass and optimizer step: accumulated over micro-batches and averaged over processes.
        Under DDP every process has to call this method.

        Args:
            neurons: Block of neurons, or their numbers; all neurons by default.

        Returns:
            Gradient, shape ``(neurons, n_in)``.

        Raises:
            RuntimeError: If :attr:`record_dense_gradient` was False during the backward pass.
        """

    def attach(self) -> None:  # noqa: B027  # only masked has need of it
        """Register the hook that masks the gradient; needed after unpickling and after unfreezing the parameter."""

    @abstractmethod
    def gradient_at(self, positions: Tensor) -> Tensor:
        """Gradient of the loss to given positions, active or absent; see :meth:`dense_gradient`.

        Time and memory grow with the number of positions and the rows of the batch, not with ``n_out * n_in``, except
        that storage masked has the dense gradient already. Under DDP every process has to ask for the same positions.

        Args:
            positions: Flat positions, ascending, int64, shape ``(n,)``.

        Returns:
            Gradient, shape ``(n,)``.

        Raises:
            RuntimeError: If :attr:`record_dense_gradient` was False during the backward pass.
        """

    @property
    @abstractmethod
    def shows_activity(self) -> bool:
        """Whether :meth:`activity` can be computed; not for weights that a module reads without a forward pass."""

    @abstractmethod
    def record_activity(self, records: bool) -> None:
        """Let backward passes keep what :meth:`activity` reads, beside :attr:`record_dense_gradient`.

        Args:
            records: Whether to record from now on; what was recorded is discarded.
        """

    @abstractmethod
    def activity(self, generator: torch.Generator | None = None) -> Activity:
        """Sum inputs and gradients of the recorded backward passes over their rows, averaged over processes.

        Under DDP every process has to call this method.

        Args:
            generator: Generator of random signs, in the same state on every process; None sums magnitudes.

        Raises:
            RuntimeError: If nothing was recorded.
        """

    @abstractmethod
    def gradient_magnitude(self) -> Tensor:
        """Sum of |gradient| over the active connections of each neuron, shape ``(n_out,)``.

        Raises:
            RuntimeError: If the parameter has no gradient.
        """
