"""Groups of equal or similar fan-in, which one batched product computes; and the order that their results come in."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

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


class Buckets:
    """All groups that have inputs, in buckets by fan-in; results of the buckets follow each other, padding included.

    The groups of a bucket have the same fan-in; on the devices of :data:`PADDED_ON` nearly the same: at most eight
    buckets for each doubling of the fan-in.

    Args:
        fan_in: Fan-in of each group, int64, shape ``(n_groups,)``.
        inputs: Input of each pair of a group and an input, in the order of the groups, int64, shape ``(n_pairs,)``.
        n_in: Number of inputs.
    """

    def __init__(self, fan_in: Tensor, inputs: Tensor, n_in: int) -> None:
        self.n_in, self.n_pairs = n_in, len(inputs)
        sizes: list[int] = fan_in.tolist()
        own: dict[int, list[int]] = {}
        is_padded = inputs.device.type in PADDED_ON
        for group, k in enumerate(sizes):
            if k:
                grain = max(1, (1 << (k.bit_length() - 1)) // _PARTS) if is_padded else 1
                own.setdefault(-(-k // grain) * grain, []).append(group)
        padded_inputs = functional.pad(inputs, (0, 1), value=n_in)
        starts = fan_in.cumsum(0) - fan_in
        chosen = torch.tensor([group for groups in own.values() for group in groups], dtype=torch.int64)
        chosen = chosen.to(inputs.device)  # at once
        self.all: list[Bucket] = []
        """Buckets; none for a layer without connections."""
        for index, groups in zip(
            torch.split(chosen, [len(groups) for groups in own.values()]), own.values(), strict=True
        ):
            largest, smallest = max(sizes[group] for group in groups), min(sizes[group] for group in groups)
            step = torch.arange(largest, device=inputs.device)
            rows = (starts[index][:, None] + step).masked_fill(step >= fan_in[index][:, None], self.n_pairs)
            padded = smallest < largest
            self.all.append(Bucket(index, largest, rows.flatten(), padded_inputs[rows.flatten()], padded))
        self.n_rows = sum(len(bucket.rows) for bucket in self.all)
        """Number of pairs, and of rows of padding."""
        self.has_empty = len(chosen) < len(sizes)
        """Whether a group has no inputs."""
        self.is_whole = len(self.all) == 1 and not self.all[0].padded and len(self.all[0].groups) == len(sizes)
        """Whether a single bucket has all groups in their order, without padding."""
        places = inputs.new_empty(self.n_pairs + 1)
        if self.all:
            every = torch.cat([bucket.rows for bucket in self.all])
            places.index_copy_(0, every, torch.arange(self.n_rows, device=inputs.device))
        self.places = places[:-1]
        """Row of each pair among those of the buckets, int64, shape ``(n_pairs,)``."""
        self._pairs_by_input = inputs.argsort(stable=True)
        self._rows_by_input = self.places[self._pairs_by_input]
        counts = inputs.new_zeros(n_in).index_add_(0, inputs, torch.ones_like(inputs))
        self._begins = counts.cumsum(0) - counts  # of each input in the two orders above

    def take_pairs(self, weight: Tensor, bucket: Bucket) -> Tensor:
        """Take the weights of a bucket, shape ``(groups, fan_in, size)``.

        Args:
            weight: Weights, one row for each pair.
            bucket: Bucket.
        """
        if self.is_whole:
            return weight.view(len(bucket.groups), bucket.fan_in, -1)
        return _take(weight, bucket.rows, bucket)

    def take_inputs(self, x: Tensor, bucket: Bucket) -> Tensor:
        """Take the inputs of a bucket, shape ``(groups, fan_in, rows)``.

        Args:
            x: Inputs by feature, shape ``(n_in, rows)``.
            bucket: Bucket.
        """
        return _take(x, bucket.inputs, bucket)

    def take_groups(self, y: Tensor, bucket: Bucket) -> Tensor:
        """Take the outputs of a bucket, shape ``(groups, size, rows)``.

        Args:
            y: Outputs by group, shape ``(n_groups, size, rows)``.
            bucket: Bucket.
        """
        return y if self.is_whole else y.index_select(0, bucket.groups)

    def sum_by_input(self, rows: Tensor, in_buckets: bool) -> Tensor:
        """Sum rows by the input of their pair, always in the same order, shape ``(n_in, …)``.

        Args:
            rows: One row for each pair, shape ``(n_pairs, …)``; or the rows of the buckets, shape ``(n_rows, …)``.
            in_buckets: Whether they are those of the buckets.
        """
        order = self._rows_by_input if in_buckets else self._pairs_by_input
        return torch.embedding_bag(rows, order, self._begins, mode=0)[0]


def _take(matrix: Tensor, rows: Tensor, bucket: Bucket) -> Tensor:
    """Take rows of a matrix for a bucket, zeros for padding; shape ``(groups, fan_in, columns)``."""
    if bucket.padded:
        matrix = torch.cat([matrix, matrix.new_zeros(1, matrix.shape[1])])
    return matrix.index_select(0, rows).view(len(bucket.groups), bucket.fan_in, matrix.shape[1])
