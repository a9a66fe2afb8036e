"""Products of groups of neurons that share their inputs, as Triton kernels for CUDA.

The weights of a layer are a matrix ``(n_pairs, size)``: one row for each pair of a group and an input, sorted by group,
and one column for each neuron of the group. Activations are stored by feature, ``(n_in, rows)`` and
``(n_groups * size, rows)``, so that the row of an input is contiguous: the kernels gather rows while they load them,
and no copy of the gathered inputs is ever written. Matrix units multiply, in blocks of pairs, rows and neurons.

The gradient to the inputs needs no atomic additions: the products of all pairs are written in the order of their
inputs, and then summed input by input. So all results are the same in every run.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

SMALLEST = 16
"""Smallest side of a block that matrix units take."""
_LARGEST_SIDES = {2: 128, 4: 32}  # neurons of a block by bytes of a number; larger ones do not fit into the registers
_SUMMED = 8  # products of an input that are loaded at once


class Blocks(NamedTuple):
    """Sides of the blocks that one program computes, powers of 2, at least :data:`SMALLEST`; and how it runs."""

    pairs: int = 32
    """Pairs, the summed dimension of the forward pass."""
    rows: int = 64
    """Rows of the batch."""
    warps: int = 8
    """Warps of a program."""
    stages: int = 3
    """Blocks that are loaded ahead."""


BLOCKS = Blocks()
"""Blocks that are used unless others are given: all registers suffice, see ``benchmarks/group_kernels.py``."""


def choose_side(size: int, itemsize: int) -> int:
    """Choose the neurons of a block.

    Args:
        size: Neurons of a group.
        itemsize: Bytes of a number.
    """
    return min(_LARGEST_SIDES[itemsize], max(SMALLEST, int(triton.next_power_of_2(size))))


class GroupPlan:
    """Index tensors of one set of pairs, on the device that computes.

    Args:
        inputs: Input of each pair, sorted by group, shape ``(n_pairs,)``.
        ends: End of the pairs of each group, shape ``(n_groups,)``.
        n_in: Number of inputs.
        size: Neurons of a group.
        blocks: Sides of the blocks.
    """

    def __init__(self, inputs: Tensor, ends: Tensor, n_in: int, size: int, blocks: Blocks = BLOCKS) -> None:
        self.n_in, self.size, self.n_groups, self.n_pairs, self.blocks = n_in, size, len(ends), len(inputs), blocks
        ends = ends.to(torch.int32)
        self.inputs = inputs.to(torch.int32)
        self.edges = torch.cat([ends.new_zeros(1), ends])
        """First pair of each group, and the number of pairs, int32."""
        counts = self.edges.diff()
        self.order = counts.argsort(descending=True, stable=True).to(torch.int32)
        """Groups by falling fan-in: the longest programs start first."""
        tiles = -(counts // -blocks.pairs)
        self.tile_groups = torch.arange(self.n_groups, device=ends.device).repeat_interleave(tiles).to(torch.int32)
        """Group of each block of pairs."""
        first = (tiles.cumsum(0) - tiles)[self.tile_groups.long()]
        own = torch.arange(len(self.tile_groups), device=ends.device) - first
        self.tile_starts = (self.edges[self.tile_groups.long()] + own * blocks.pairs).to(torch.int32)
        """First pair of each block of pairs."""
        order = self.inputs.argsort(stable=True)
        self.places = torch.empty_like(self.inputs)
        self.places[order] = torch.arange(self.n_pairs, dtype=torch.int32, device=ends.device)
        """Place of each pair in the order of the inputs."""
        by_input = torch.bincount(self.inputs, minlength=n_in).cumsum(0)
        self.input_edges = torch.cat([by_input.new_zeros(1), by_input]).to(torch.int32)
        """First place of each input, and the number of pairs."""

    def solve_y(self, w: Tensor, x: Tensor) -> Tensor:
        """Compute outputs from weights ``(n_pairs, size)`` and inputs ``(n_in, rows)``.

        Args:
            w: Weights, contiguous, in 16 or 32 bit.
            x: Inputs by feature, contiguous, dtype of ``w``.

        Returns:
            Outputs by group, shape ``(n_groups * size, rows)``.
        """
        n_rows, side = x.shape[1], choose_side(self.size, x.element_size())
        y = x.new_empty(self.n_groups * self.size, n_rows)
        _solve_y[self.n_groups, triton.cdiv(n_rows, self.blocks.rows), triton.cdiv(self.size, side)](
            w, x, y, self.inputs, self.edges, self.order, n_rows, self.size, side, self.blocks.pairs,
            self.blocks.rows, _get_precision(), num_warps=self.blocks.warps, num_stages=self.blocks.stages,
        )  # fmt: skip
        return y

    def solve_w(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the gradient to the weights, shape ``(n_pairs, size)``, from inputs and gradients to the outputs.

        Args:
            x: Inputs by feature, shape ``(n_in, rows)``, contiguous.
            y: Gradients by group, shape ``(n_groups * size, rows)``, contiguous.
        """
        side, w = choose_side(self.size, x.element_size()), x.new_empty(self.n_pairs, self.size)
        if self.n_pairs:
            _solve_w[len(self.tile_groups), triton.cdiv(self.size, side)](
                x, y, w, self.inputs, self.edges, self.tile_groups, self.tile_starts, x.shape[1], self.size, side,
                self.blocks.pairs, self.blocks.rows, _get_precision(), num_warps=self.blocks.warps,
                num_stages=self.blocks.stages,
            )  # fmt: skip
        return w

    def solve_x(self, w: Tensor, y: Tensor) -> Tensor:
        """Compute the gradient to the inputs, shape ``(n_in, rows)``, from weights and gradients to the outputs.

        Args:
            w: Weights, shape ``(n_pairs, size)``, contiguous.
            y: Gradients by group, shape ``(n_groups * size, rows)``, contiguous.
        """
        n_rows, side = y.shape[1], choose_side(self.size, y.element_size())
        products, x = y.new_empty(self.n_pairs, n_rows), y.new_empty(self.n_in, n_rows)
        tiles = triton.cdiv(n_rows, self.blocks.rows)
        if self.n_pairs:
            _multiply_pairs[len(self.tile_groups), tiles](
                w, y, products, self.places, self.edges, self.tile_groups, self.tile_starts, n_rows, self.size,
                side, self.blocks.pairs, self.blocks.rows, _get_precision(), num_warps=self.blocks.warps,
                num_stages=self.blocks.stages,
            )  # fmt: skip
        _sum_by_input[self.n_in, tiles](
            products, x, self.input_edges, n_rows, _SUMMED, self.blocks.rows, num_warps=self.blocks.warps
        )
        return x


def _get_precision() -> str:
    """Precision of products of 32-bit numbers, as torch's own products have it."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"


@triton.jit
def _solve_y(
    w, x, y, inputs, edges, order, n_rows, SIZE: tl.constexpr, SIDE: tl.constexpr, PAIRS: tl.constexpr,
    ROWS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    group = tl.load(order + tl.program_id(0))
    b = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    s = tl.program_id(2) * SIDE + tl.arange(0, SIDE)
    begin, end = tl.load(edges + group), tl.load(edges + group + 1)
    total = tl.full((SIDE, ROWS), 0.0, tl.float32)
    for first in range(begin, end, PAIRS):
        k = first + tl.arange(0, PAIRS)
        i = tl.load(inputs + k, mask=k < end, other=0).to(tl.int64)
        left = w + k[None, :].to(tl.int64) * SIZE + s[:, None]
        weights = tl.load(left, mask=(k[None, :] < end) & (s[:, None] < SIZE), other=0.0)
        right = x + i[:, None] * n_rows + b[None, :]
        total = tl.dot(
            weights,
            tl.load(right, mask=(k[:, None] < end) & (b[None, :] < n_rows), other=0.0),
            total,
            input_precision=PRECISION,
        )
    target = y + (group.to(tl.int64) * SIZE + s[:, None]) * n_rows + b[None, :]
    tl.store(target, total.to(y.dtype.element_ty), mask=(s[:, None] < SIZE) & (b[None, :] < n_rows))


@triton.jit
def _solve_w(
    x, y, w, inputs, edges, tile_groups, tile_starts, n_rows, SIZE: tl.constexpr, SIDE: tl.constexpr,
    PAIRS: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    group = tl.load(tile_groups + tl.program_id(0))
    end = tl.load(edges + group + 1)
    k = tl.load(tile_starts + tl.program_id(0)) + tl.arange(0, PAIRS)
    s = tl.program_id(1) * SIDE + tl.arange(0, SIDE)
    i = tl.load(inputs + k, mask=k < end, other=0).to(tl.int64)
    neurons = group.to(tl.int64) * SIZE + s
    total = tl.full((PAIRS, SIDE), 0.0, tl.float32)
    for first in range(0, n_rows, ROWS):
        b = first + tl.arange(0, ROWS)
        left = x + i[:, None] * n_rows + b[None, :]
        right = y + neurons[None, :] * n_rows + b[:, None]
        total = tl.dot(
            tl.load(left, mask=(k[:, None] < end) & (b[None, :] < n_rows), other=0.0),
            tl.load(right, mask=(s[None, :] < SIZE) & (b[:, None] < n_rows), other=0.0),
            total,
            input_precision=PRECISION,
        )
    target = w + k[:, None].to(tl.int64) * SIZE + s[None, :]
    tl.store(target, total.to(w.dtype.element_ty), mask=(k[:, None] < end) & (s[None, :] < SIZE))


@triton.jit
def _multiply_pairs(
    w, y, products, places, edges, tile_groups, tile_starts, n_rows, SIZE: tl.constexpr, SIDE: tl.constexpr,
    PAIRS: tl.constexpr, ROWS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    group = tl.load(tile_groups + tl.program_id(0))
    end = tl.load(edges + group + 1)
    k = tl.load(tile_starts + tl.program_id(0)) + tl.arange(0, PAIRS)
    b = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    total = tl.full((PAIRS, ROWS), 0.0, tl.float32)
    for first in range(0, SIZE, SIDE):
        s = first + tl.arange(0, SIDE)
        left = w + k[:, None].to(tl.int64) * SIZE + s[None, :]
        right = y + (group.to(tl.int64) * SIZE + s[:, None]) * n_rows + b[None, :]
        total = tl.dot(
            tl.load(left, mask=(k[:, None] < end) & (s[None, :] < SIZE), other=0.0),
            tl.load(right, mask=(s[:, None] < SIZE) & (b[None, :] < n_rows), other=0.0),
            total,
            input_precision=PRECISION,
        )
    place = tl.load(places + k, mask=k < end, other=0).to(tl.int64)
    target = products + place[:, None] * n_rows + b[None, :]
    tl.store(target, total.to(products.dtype.element_ty), mask=(k[:, None] < end) & (b[None, :] < n_rows))


@triton.jit
def _sum_by_input(products, x, edges, n_rows, SUMMED: tl.constexpr, ROWS: tl.constexpr):
    i = tl.program_id(0)
    b = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    begin, end = tl.load(edges + i), tl.load(edges + i + 1)
    total = tl.full((ROWS,), 0.0, tl.float32)
    for first in range(begin, end, SUMMED):
        for k in tl.static_range(SUMMED):
            place = first + k
            row = products + place.to(tl.int64) * n_rows
            total += tl.load(row + b, mask=(place < end) & (b < n_rows), other=0.0).to(tl.float32)
    tl.store(x + i.to(tl.int64) * n_rows + b, total.to(x.dtype.element_ty), mask=b < n_rows)
