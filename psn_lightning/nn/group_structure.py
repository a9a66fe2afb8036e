"""Structure of a layer in storage groups: order of the weights, and the products of its groups of neurons.

The weights are a matrix with one row for each pair of a group and an input, in the order of the pairs, and one column
for each neuron of the group. The layer is the trilinear form Σ w[p, s] · x[input of p] · y[group of p, s] over pairs p
and columns s: its derivative in one of weights ``w``, inputs ``x`` and outputs ``y`` is computed from the other two. So
the gradients of the layer, and theirs, are again these three products.
"""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from psn_lightning.nn.group_buckets import Buckets
from psn_lightning.nn.sharing import expand_pairs, list_neurons

if TYPE_CHECKING:
    from psn_lightning.kernels.triton_groups import GroupPlan

Kind = Literal["w", "x", "y"]
KINDS: tuple[Kind, ...] = ("w", "x", "y")

_TRITON_TYPES = frozenset({torch.float16, torch.bfloat16, torch.float32})
_numbers = itertools.count()
_structures: weakref.WeakValueDictionary[int, GroupStructure] = weakref.WeakValueDictionary()


class GroupStructure(nn.Module):
    """Structure of groups of neurons that share their inputs.

    Args:
        groups: Group of each neuron, see :func:`~psn_lightning.nn.sharing.list_neurons`.
        n_in: Number of inputs.
        pairs: Pairs of a group and an input, ascending, int64, shape ``(n_pairs,)``.
    """

    kernels: ClassVar[Literal["torch", "triton"]] = "torch"
    """Kernels of the products: torch's, or on CUDA those of Triton, which no GPU has run yet."""
    groups: Tensor
    neurons: Tensor
    """Neurons of each group, shape ``(n_groups, size)``."""
    places: Tensor
    """Place of each neuron in ``neurons``, shape ``(n_out,)``."""
    pairs: Tensor
    inputs: Tensor
    """Input of each pair, shape ``(n_pairs,)``."""
    fan_in: Tensor
    """Number of inputs of each group, shape ``(n_groups,)``."""
    ends: Tensor
    """End of each group's pairs, int32, shape ``(n_groups,)``."""

    def __init__(self, groups: Tensor, n_in: int, pairs: Tensor) -> None:
        super().__init__()
        self.n_in = n_in
        neurons = list_neurons(groups)
        self.n_groups, self.size = neurons.shape
        self._is_contiguous = bool((groups[1:] >= groups[:-1]).all())
        self._hold(groups=groups, neurons=neurons, places=neurons.flatten().argsort())
        self.set_pairs(pairs)
        self._register()

    def _register(self) -> None:
        self.number = next(_numbers)
        """Number of the structure in this process, by which compiled graphs find it."""
        _structures[self.number] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Give a copy a number of its own."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._register()

    def set_pairs(self, pairs: Tensor) -> None:
        """Set the pairs, ascending, int64, shape ``(n_pairs,)``; waits for the device."""
        groups = pairs // self.n_in
        fan_in = groups.new_zeros(self.n_groups).index_add_(0, groups, torch.ones_like(groups))
        self.n_pairs = len(pairs)
        self._hold(pairs=pairs, inputs=pairs % self.n_in, fan_in=fan_in, ends=fan_in.cumsum(0, dtype=torch.int32))
        self._buckets = Buckets(self.fan_in, self.inputs, self.n_in)
        self._plan: GroupPlan | None = None

    def _hold(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    def positions(self) -> tuple[Tensor, Tensor]:
        """Flat positions, ascending, and the place of each in the parameter; int64, shape ``(n_connections,)``."""
        positions, places = expand_pairs(self.pairs, self.neurons, self.n_in).flatten().sort()
        return positions, places

    def extra_repr(self) -> str:
        """Return the sizes shown in the printed module."""
        return f"groups={self.n_groups}, size={self.size}"

    @property
    def buckets(self) -> Buckets:
        """Groups in buckets, for the device that the structure is on."""
        if self._buckets.places.device != self.pairs.device:
            self._buckets = Buckets(self.fan_in, self.inputs, self.n_in)
        return self._buckets

    @property
    def plan(self) -> GroupPlan:
        """Index tensors of Triton's kernels, for the device that the structure is on."""
        if self._plan is None or self._plan.inputs.device != self.pairs.device:
            from psn_lightning.kernels.triton_groups import GroupPlan

            self._plan = GroupPlan(self.inputs, self.ends, self.n_in, self.size)
        return self._plan

    def solve(self, kind: Kind, a: Tensor, b: Tensor) -> Tensor:
        """Compute one of weights, inputs and outputs from the other two.

        Args:
            kind: What to compute: ``w``, shape ``(n_pairs, size)``; ``x``, shape ``(n_in, rows)``; or ``y``, shape
                ``(n_out, rows)``.
            a: First of the other two, in this order.
            b: Second of them.
        """
        by_triton = self.kernels == "triton" and a.dtype in _TRITON_TYPES
        if kind == "y":
            made = self.plan.solve_y(a.contiguous(), b.contiguous()) if by_triton else self._solve_y(a, b).flatten(0, 1)
            return made if self._is_contiguous else made.index_select(0, self.places)
        y = self._sort(b)
        if by_triton:
            solve = self.plan.solve_w if kind == "w" else self.plan.solve_x
            return solve(a.contiguous(), y.flatten(0, 1).contiguous())
        return self._solve_w(a, y) if kind == "w" else self._solve_x(a, y)

    def _sort(self, y: Tensor) -> Tensor:
        """Sort outputs by group, shape ``(n_groups, size, rows)``."""
        sorted_ = y if self._is_contiguous else y.index_select(0, self.neurons.flatten())
        return sorted_.reshape(self.n_groups, self.size, -1)

    def _solve_y(self, w: Tensor, x: Tensor) -> Tensor:
        if fits_grouped_mm(w, x, self):
            return nn.functional.grouped_mm(w.T, x.index_select(0, self.inputs), offs=self.ends)
        buckets = self.buckets
        parts = [
            torch.bmm(buckets.take_pairs(w, bucket).transpose(1, 2), buckets.take_inputs(x, bucket))
            for bucket in buckets.all
        ]
        if buckets.is_whole:
            return parts[0]
        made = w.new_zeros(self.n_groups, self.size, x.shape[1])
        for bucket, part in zip(buckets.all, parts, strict=True):
            made.index_copy_(0, bucket.groups, part)
        return made

    def _solve_x(self, w: Tensor, y: Tensor) -> Tensor:
        buckets = self.buckets
        if fits_grouped_mm(w, y, self):
            return buckets.sum_by_input(nn.functional.grouped_mm(w, y, offs=self.ends), in_buckets=False)
        made, first = w.new_empty(buckets.n_rows, y.shape[2]), 0
        for bucket in buckets.all:
            own = made[first : first + len(bucket.rows)].view(len(bucket.groups), bucket.fan_in, -1)
            torch.bmm(buckets.take_pairs(w, bucket), buckets.take_groups(y, bucket), out=own)
            first += len(bucket.rows)
        return buckets.sum_by_input(made, in_buckets=True)

    def _solve_w(self, x: Tensor, y: Tensor) -> Tensor:
        if fits_grouped_mm(x, y, self):
            return nn.functional.grouped_mm(x.index_select(0, self.inputs), y.transpose(1, 2), offs=self.ends)
        buckets = self.buckets
        made, first = x.new_empty(buckets.n_rows, self.size), 0
        for bucket in buckets.all:
            own = made[first : first + len(bucket.rows)].view(len(bucket.groups), bucket.fan_in, -1)
            torch.bmm(buckets.take_inputs(x, bucket), buckets.take_groups(y, bucket).transpose(1, 2), out=own)
            first += len(bucket.rows)
        return made if buckets.is_whole else made.index_select(0, buckets.places)


def find_structure(number: int) -> GroupStructure:
    """Return the structure of a number."""
    return _structures[number]


def fits_grouped_mm(a: Tensor, b: Tensor, structure: GroupStructure) -> bool:
    """Return whether torch's grouped product takes two factors: bfloat16 on CUDA, rows of a multiple of 16 bytes.

    Args:
        a: Factor with one row for each pair, or for each input.
        b: The other factor.
        structure: Structure of the layer.
    """
    possible = a.dtype == torch.bfloat16 and a.is_cuda and hasattr(nn.functional, "grouped_mm")
    aligned = a.shape[-1] % 8 == 0 and b.shape[-1] % 8 == 0 and structure.size % 8 == 0
    return (
        possible
        and aligned
        and not structure.buckets.has_empty
        and torch.cuda.get_device_capability(a.device) >= (8, 0)
    )
