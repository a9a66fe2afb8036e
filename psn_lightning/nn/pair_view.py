"""View of the groups of a layer in storage groups, whose pairs are what the layer itself holds."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from psn_lightning.nn.group_view import GroupView
from psn_lightning.nn.grouped import GroupedLinear
from psn_lightning.nn.layer import SparseLayer


class PairView(GroupView):
    """:class:`GroupView` of a :class:`GroupedLinear`: time and memory grow with the pairs, and nothing is sorted.

    Args:
        layer: Layer in storage groups.
    """

    def __init__(self, layer: GroupedLinear) -> None:
        super().__init__(layer)
        self._grouped = layer

    def active_positions(self) -> Tensor:
        """Pairs, ascending, int64, shape ``(n_pairs,)``."""
        return self._grouped.structure.pairs

    def active_values(self) -> Tensor:
        """Sum of |weight| of each pair, shape ``(n_pairs,)``."""
        return self.compress(self._grouped.weight.detach())

    def compress(self, moment: Tensor) -> Tensor:
        """Sum of the magnitudes of an optimizer tensor, or gradient, of each pair, shape ``(n_pairs,)``."""
        return moment.abs().view(-1, self.size).sum(dim=1)

    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> int:
        """Change which pairs are active; see :meth:`SparseLayer.set_active`."""
        return self._grouped.set_pairs(positions, moments) // self.size

    def gradient_at(self, positions: Tensor) -> Tensor:
        """Sum of |gradient| to given pairs over the groups, shape ``(n,)``."""
        return self._grouped.gradient_at_pairs(positions).abs().sum(dim=1)


def at_group_grain(layer: SparseLayer) -> SparseLayer:
    """Return the view of a layer's groups, or the layer itself if its neurons share nothing."""
    if isinstance(layer, GroupedLinear):
        return PairView(layer)
    return layer if layer.groups is None else GroupView(layer)
