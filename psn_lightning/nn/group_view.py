"""View of a layer whose neurons are its groups, so that a rule drops and grows pairs of a group and an input."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.activity import Activity
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.sharing import expand_pairs, find_pairs, list_neurons
from psn_lightning.topology import Connectivity

_AT_ONCE = 2**22  # positions whose gradients are summed at once


class GroupView(SparseLayer):
    """Layer of any storage, seen as a layer with one neuron for each group of neurons that share their inputs.

    A connection of the view is a pair of a group and an input. Its weight is the sum of |weight| over the neurons of
    the group, its gradient the sum of |gradient|: by these a rule drops and grows. Weights and moments are those of the
    layer.

    Args:
        layer: Layer with groups.
    """

    def __init__(self, layer: SparseLayer) -> None:
        self.layer = layer
        self.storage = layer.storage
        self._known: tuple[Tensor, Tensor] | None = None  # groups, and the neurons of each
        self._find_neurons()

    @property
    def groups(self) -> None:
        """Nothing: the neurons of a view are the groups."""
        return None

    @property
    def _labels(self) -> Tensor:
        """Group of each neuron of the layer.

        Raises:
            RuntimeError: If something else than a rule has given the neurons of a group different inputs.
        """
        groups = self.layer.groups
        if groups is None:
            raise RuntimeError(
                "the neurons of a group no longer share their inputs: something else than the rule has changed the mask"
            )
        return groups

    def _find_neurons(self) -> Tensor:
        """Find the neurons of each group, once: a device would be waited for."""
        groups = self._labels
        if self._known is None or self._known[0] is not groups:
            self._known = groups, list_neurons(groups)
        return self._known[1]

    @property
    def _neurons(self) -> Tensor:
        """Neurons of each group, shape ``(n_groups, size)``."""
        return self._find_neurons()

    @property
    def size(self) -> int:
        """Number of neurons of a group."""
        return self._neurons.shape[1]

    @property
    def record_dense_gradient(self) -> bool:
        """Whether backward passes keep the gradient to absent connections."""
        return self.layer.record_dense_gradient

    @record_dense_gradient.setter
    def record_dense_gradient(self, records: bool) -> None:
        self.layer.record_dense_gradient = records

    @property
    def n_candidates(self) -> int | None:
        """Number of absent pairs whose gradient a rule reads."""
        return None if self.layer.n_candidates is None else self.layer.n_candidates // self.size

    @n_candidates.setter
    def n_candidates(self, count: int | None) -> None:
        self.layer.n_candidates = None if count is None else count * self.size

    @property
    def n_out(self) -> int:
        """Number of groups."""
        return self.layer.n_out // self.size

    @property
    def n_in(self) -> int:
        """Number of inputs."""
        return self.layer.n_in

    @property
    def n_connections(self) -> int:
        """Number of pairs."""
        return self.layer.n_connections // self.size

    @property
    def parameter(self) -> nn.Parameter:
        """Parameter of the layer."""
        return self.layer.parameter

    @property
    def connectivity(self) -> Connectivity:
        """Inputs of the groups."""
        return self.layer.connectivity.grid()

    @property
    def fan_in(self) -> Tensor:
        """Number of inputs of each group, int64, shape ``(n_groups,)``."""
        return self.layer.fan_in[self._neurons[:, 0]]

    @property
    def mask(self) -> Tensor:
        """Boolean mask, shape ``(n_groups, n_in)``."""
        return self.layer.mask[self._neurons[:, 0]]

    def active_positions(self) -> Tensor:
        """Pairs, ascending, int64, shape ``(n_pairs,)``."""
        pairs = find_pairs(self.layer.active_positions(), self._labels, self.n_in)
        if pairs is None:
            raise RuntimeError("the neurons of a group no longer share their inputs")
        return pairs

    def active_values(self) -> Tensor:
        """Sum of |weight| of each pair, shape ``(n_pairs,)``."""
        return self._sum_pairs(self.layer.active_values())

    def compress(self, moment: Tensor) -> Tensor:
        """Sum of the magnitudes of an optimizer tensor, or gradient, of each pair, shape ``(n_pairs,)``."""
        return self._sum_pairs(self.layer.compress(moment))

    def _sum_pairs(self, values: Tensor) -> Tensor:
        """Sum the magnitudes of values of connections, in the order of the positions, over the groups."""
        positions = self.layer.active_positions()
        pairs = self._labels[positions // self.n_in] * self.n_in + positions % self.n_in
        order = pairs.argsort(stable=True)
        return values[order].abs().view(-1, self.size).sum(dim=1)

    def set_values(self, values: Tensor) -> None:
        """Refuse to set weights.

        Raises:
            SettingError: Always: a pair has one weight for each neuron of its group.
        """
        raise SettingError(
            "the rule gives new connections a first weight, but those of neurons that share their inputs in groups "
            "start at 0: use a topology without groups, or let the first weight be 0"
        )

    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """Change which pairs are active; see :meth:`SparseLayer.set_active`."""
        connections = expand_pairs(positions, self._neurons, self.n_in).flatten().sort().values
        return self.layer.set_active(connections, moments) // self.size

    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """Scatter one value for each pair into the layout of :attr:`parameter`, equal for all neurons of a group."""
        connections, order = expand_pairs(positions, self._neurons, self.n_in).flatten().sort()
        return self.layer.expand(moment.repeat_interleave(self.size)[order], connections)

    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """Set weight and moments of absent connections to 0."""
        self.layer.apply_mask(moments)

    def mask_gradient(self) -> None:
        """Set a recorded dense gradient to 0 at absent connections."""
        self.layer.mask_gradient()

    def attach(self) -> None:
        """Register the hook that masks the gradient."""
        self.layer.attach()

    def dense_gradient(self, neurons: slice | Tensor = slice(None)) -> Tensor:
        """Sum of |gradient| to all positions over each group of a block of groups, shape ``(groups, n_in)``."""
        of_groups = self._neurons[neurons]
        step = max(1, _AT_ONCE // (self.n_in * self.size))
        parts = [
            self.layer.dense_gradient(own.flatten()).abs_().view(*own.shape, self.n_in).sum(dim=1)
            for own in torch.split(of_groups, step)
        ]
        return torch.cat(parts)

    def gradient_at(self, positions: Tensor) -> Tensor:
        """Sum of |gradient| to given pairs over the groups, shape ``(n,)``."""
        connections, order = expand_pairs(positions, self._neurons, self.n_in).flatten().sort()
        gradient = self.layer.gradient_at(connections).abs()
        return torch.empty_like(gradient).index_copy_(0, order, gradient).view(-1, self.size).sum(dim=1)

    @property
    def shows_activity(self) -> bool:
        """Whether :meth:`activity` can be computed."""
        return self.layer.shows_activity

    def record_activity(self, records: bool) -> None:
        """Let backward passes keep what :meth:`activity` reads."""
        self.layer.record_activity(records)

    def activity(self, generator: torch.Generator | None = None) -> Activity:
        """Activity of the layer, summed over the neurons of each group."""
        by_neuron, by_input = self.layer.activity(generator)
        return Activity(by_neuron[self._neurons].sum(dim=1), by_input)

    def gradient_magnitude(self) -> Tensor:
        """Sum of |gradient| over the active connections of each group, shape ``(n_groups,)``."""
        return self.layer.gradient_magnitude()[self._neurons].sum(dim=1)
