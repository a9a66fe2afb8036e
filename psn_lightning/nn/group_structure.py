"""Structure of a layer in storage groups: order of the weights, and the products of its groups of neurons.

The weights are a matrix with one row for each pair of a group and an input, in the order of the pairs, and one column
for each neuron of the group. The layer is the trilinear form Σ w[p, s] · x[input of p] · y[group of p, s] over pairs p
and columns s: its derivative in one of weights ``w``, inputs ``x`` and outputs ``y`` is computed from the other two. So
the gradients of the layer, and theirs, are again these three products.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from psn_lightning.nn.sharing import expand_pairs, list_neurons

Kind = Literal["w", "x", "y"]
KINDS: tuple[Kind, ...] = ("w", "x", "y")

_numbers = itertools.count()
_structures: weakref.WeakValueDictionary[int, GroupStructure] = weakref.WeakValueDictionary()

PADDED_ON = {"cuda", "xpu", "mps"}
"""Devices on which groups of similar fan-in are padded to one batched product, because every launch counts there."""

_PARTS = 8  # buckets for each doubling of the fan-in where they are padded: by less than its 8th part


class Bucket(NamedTuple):
    """Groups that one batched product computes, where needed padded to the largest fan-in among them."""

    groups: Tensor
    """Numbers of the groups, int64, shape ``(b,)``."""
    fan_in: int
    """Number of rows of each group in the product."""
    rows: Tensor
    """Rows of the weights, int64, shape ``(b * fan_in,)``; the number of rows stands for padding."""
    inputs: Tensor
    """Inputs of these rows, same shape; the number of inputs stands for padding."""
    padded: bool
    """Whether any row is padding."""
    whole: bool
    """Whether these are all pairs in their order."""


class GroupStructure(nn.Module):
    """Structure of groups of neurons that share their inputs.

    Args:
        groups: Group of each neuron, see :func:`~psn_lightning.nn.sharing.list_neurons`.
        n_in: Number of inputs.
        pairs: Pairs of a group and an input, ascending, int64, shape ``(n_pairs,)``.
    """

    groups: Tensor
    neurons: Tensor
    """Neurons of each group, shape ``(n_groups, size)``."""
    places: Tensor
    """Place of each neuron in ``neurons``, shape ``(n_out,)``."""
    pairs: Tensor
    inputs: Tensor
    """Input of each pair, shape ``(n_pairs,)``."""
    ends: Tensor
    """End of each group's pairs, int32, shape ``(n_groups,)``."""

    def __init__(self, groups: Tensor, n_in: int, pairs: Tensor) -> None:
        super().__init__()
        self.n_in = n_in
        self.set_groups(groups)
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

    def set_groups(self, groups: Tensor) -> None:
        """Set the group of each neuron; :meth:`set_pairs` has to follow."""
        neurons = list_neurons(groups)
        self.n_groups, self.size = neurons.shape
        self.is_contiguous = bool((groups[1:] >= groups[:-1]).all())
        self._hold(groups=groups, neurons=neurons, places=neurons.flatten().argsort())

    def set_pairs(self, pairs: Tensor) -> None:
        """Set the pairs, ascending, int64, shape ``(n_pairs,)``."""
        fan_in = torch.bincount(pairs // self.n_in, minlength=self.n_groups)
        self.n_pairs, self.fan_in = len(pairs), fan_in.tolist()
        self._hold(pairs=pairs, inputs=pairs % self.n_in, ends=fan_in.cumsum(0, dtype=torch.int32))
        self._buckets: list[Bucket] = []
        self._bucketed: torch.device | None = None

    def _hold(self, **tensors: Tensor) -> None:
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    def positions(self) -> tuple[Tensor, Tensor]:
        """Flat positions, ascending, and the place of each in the parameter; int64, shape ``(n_connections,)``."""
        positions, places = expand_pairs(self.pairs, self.neurons, self.n_in).flatten().sort()
        return positions, places

    def buckets(self) -> list[Bucket]:
        """Return the groups in buckets, for the device that the structure is on.

        The groups of a bucket have the same fan-in; on the devices of :data:`PADDED_ON` nearly the same: at most eight
        buckets for each doubling of the fan-in.
        """
        if self._bucketed != self.pairs.device:
            self._bucketed, self._buckets = self.pairs.device, self._make_buckets()
        return self._buckets

    def _make_buckets(self) -> list[Bucket]:
        own: dict[int, list[int]] = {}
        is_padded = self.pairs.device.type in PADDED_ON
        for group, fan_in in enumerate(self.fan_in):
            if fan_in:
                step = max(1, (1 << (fan_in.bit_length() - 1)) // _PARTS) if is_padded else 1
                own.setdefault(-(-fan_in // step) * step, []).append(group)
        return [self._make_bucket(groups) for _, groups in sorted(own.items())]

    def _make_bucket(self, groups: list[int]) -> Bucket:
        device, sizes = self.pairs.device, [self.fan_in[group] for group in groups]
        fan_in, index = max(sizes), torch.tensor(groups, device=device)
        step = torch.arange(fan_in, device=device)
        rows = (self.ends[index].long() - torch.tensor(sizes, device=device))[:, None] + step
        rows = rows.masked_fill(step >= torch.tensor(sizes, device=device)[:, None], self.n_pairs).flatten()
        inputs = torch.cat([self.inputs, self.inputs.new_tensor([self.n_in])])[rows]
        padded = min(sizes) < fan_in
        return Bucket(index, fan_in, rows, inputs, padded, not padded and len(groups) == self.n_groups)

    def solve(self, kind: Kind, a: Tensor, b: Tensor) -> Tensor:
        """Compute one of weights, inputs and outputs from the other two.

        Args:
            kind: What to compute: ``w``, shape ``(n_pairs, size)``; ``x``, shape ``(n_in, rows)``; or ``y``, shape
                ``(n_out, rows)``.
            a: First of the other two, in this order.
            b: Second of them.
        """
        if kind == "w":
            return self._solve_w(a, self._sort(b))
        if kind == "x":
            return self._solve_x(a, self._sort(b))
        made = self._solve_y(a, b).flatten(0, 1)
        return made if self.is_contiguous else made.index_select(0, self.places)

    def _sort(self, y: Tensor) -> Tensor:
        """Sort outputs by group, shape ``(n_groups, size, rows)``."""
        sorted_ = y if self.is_contiguous else y.index_select(0, self.neurons.flatten())
        return sorted_.reshape(self.n_groups, self.size, -1)

    def _solve_y(self, w: Tensor, x: Tensor) -> Tensor:
        if fits_grouped_mm(w, x, self):
            return nn.functional.grouped_mm(w.T, x.index_select(0, self.inputs), offs=self.ends)
        parts = [
            torch.bmm(_take_pairs(w, bucket).transpose(1, 2), _take(x, bucket.inputs, bucket))
            for bucket in self.buckets()
        ]
        if self._is_whole():
            return parts[0]
        made = w.new_zeros(self.n_groups, self.size, x.shape[1])
        for bucket, part in zip(self.buckets(), parts, strict=True):
            made.index_copy_(0, bucket.groups, part)
        return made

    def _solve_x(self, w: Tensor, y: Tensor) -> Tensor:
        if fits_grouped_mm(w, y, self):
            return self._sum_by_input(nn.functional.grouped_mm(w, y, offs=self.ends))
        parts = [torch.bmm(_take_pairs(w, bucket), _take_groups(y, bucket)) for bucket in self.buckets()]
        return self._sum_by_input(self._join_pairs(parts, w.new_empty(self.n_pairs + 1, y.shape[2])))

    def _solve_w(self, x: Tensor, y: Tensor) -> Tensor:
        if fits_grouped_mm(x, y, self):
            return nn.functional.grouped_mm(x.index_select(0, self.inputs), y.transpose(1, 2), offs=self.ends)
        parts = [
            torch.bmm(_take(x, bucket.inputs, bucket), _take_groups(y, bucket).transpose(1, 2))
            for bucket in self.buckets()
        ]
        return self._join_pairs(parts, x.new_empty(self.n_pairs + 1, self.size))

    def _is_whole(self) -> bool:
        """Whether a single bucket has all pairs in their order."""
        return len(self.buckets()) == 1 and self.buckets()[0].whole

    def _join_pairs(self, parts: list[Tensor], made: Tensor) -> Tensor:
        """Join the rows of all buckets in the order of the pairs; padding lands in the last row, which is left out."""
        if self._is_whole():
            return parts[0].flatten(0, 1)
        for bucket, part in zip(self.buckets(), parts, strict=True):
            made.index_copy_(0, bucket.rows, part.flatten(0, 1))
        return made[:-1]

    def _sum_by_input(self, rows: Tensor) -> Tensor:
        """Sum the rows of pairs by their input, shape ``(n_in, rows)``; in 32 bit at least."""
        total = rows.new_zeros(self.n_in, rows.shape[1], dtype=torch.promote_types(rows.dtype, torch.float32))
        return total.index_add_(0, self.inputs, rows.to(total.dtype)).to(rows.dtype)


def find_structure(number: int) -> GroupStructure:
    """Return the structure of a number."""
    return _structures[number]


def _take_pairs(weight: Tensor, bucket: Bucket) -> Tensor:
    """Take the weights of a bucket, shape ``(groups, fan_in, size)``."""
    return weight.view(len(bucket.groups), bucket.fan_in, -1) if bucket.whole else _take(weight, bucket.rows, bucket)


def _take_groups(y: Tensor, bucket: Bucket) -> Tensor:
    """Take the outputs of a bucket, shape ``(groups, size, rows)``."""
    return y if bucket.whole else y.index_select(0, bucket.groups)


def _take(matrix: Tensor, rows: Tensor, bucket: Bucket) -> Tensor:
    """Take rows of a matrix for a bucket, zeros for padding; shape ``(groups, fan_in, columns)``."""
    if bucket.padded:
        matrix = torch.cat([matrix, matrix.new_zeros(1, matrix.shape[1])])
    return matrix.index_select(0, rows).view(len(bucket.groups), bucket.fan_in, -1)


def fits_grouped_mm(a: Tensor, b: Tensor, structure: GroupStructure) -> bool:
    """Return whether torch's grouped product takes two factors: bfloat16 on CUDA, rows of a multiple of 16 bytes.

    Args:
        a: Factor with one row for each pair, or for each input.
        b: The other factor.
        structure: Structure of the layer.
    """
    possible = a.dtype == torch.bfloat16 and a.is_cuda and hasattr(nn.functional, "grouped_mm")
    aligned = a.shape[-1] % 8 == 0 and b.shape[-1] % 8 == 0 and structure.size % 8 == 0
    return possible and aligned and min(structure.fan_in) > 0 and torch.cuda.get_device_capability(a.device) >= (8, 0)
