"""csr storage: only the active weights are stored and multiplied; on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from psn_lightning.nn.kernels.layout import pack, unpack
from psn_lightning.nn.kernels.pool import run
from psn_lightning.nn.kernels.products import connection_dots, multiply
from psn_lightning.nn.sparse_linear import SparseLinear
from psn_lightning.nn.structure import Half, IndexVector, Structure
from psn_lightning.topology import Connectivity

_WIDTHS = (32, 64, 128)  # columns of a tile; the widest amortises best, the others fit small batches


class CSRLinear(SparseLinear):
    """A layer whose only weights are those of its connections, shape ``(n_connections,)`` in CSR order.

    Growth needs the gradient to absent connections too; it is computed block by block when it is asked for,
    from the activations and gradients that a recording step keeps.
    """

    structure: Structure

    def _create(self, connectivity: Connectivity, values: Tensor) -> None:
        self.weight = nn.Parameter(torch.empty(0))
        self._recorded: list[tuple[Tensor, Tensor]] = []
        self._load(connectivity, values)

    def _load(self, connectivity: Connectivity, values: Tensor) -> None:
        self.structure = Structure(connectivity.keys(), self.out_features, self.in_features)
        self.weight.data = values.detach().to(self.bias, copy=True)
        self.weight.grad = None

    @property
    def connectivity(self) -> Connectivity:
        """See the interface."""
        indptr = np.concatenate([[0], np.cumsum(self.structure.fan_in)])
        indices = self.structure.positions % self.in_features
        return Connectivity(self.in_features, self.out_features, indptr, indices)

    @property
    def fan_in(self) -> Tensor:
        """See the interface."""
        return torch.from_numpy(self.structure.fan_in)

    @property
    def mask(self) -> Tensor:
        """See the interface; made for those who ask."""
        mask = torch.zeros(self.out_features, self.in_features, dtype=torch.bool)
        mask.view(-1)[self.active_positions()] = True
        return mask

    def active_positions(self) -> Tensor:
        """See the interface."""
        return torch.from_numpy(self.structure.positions)

    def active_values(self) -> Tensor:
        """See the interface."""
        return self.weight.detach()

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # the kernels are compiled already
    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_features)`` to ``(batch, out_features)``."""
        if x.device.type != "cpu":
            raise RuntimeError(
                "storage csr runs on CPUs only: set model.storage to masked, or trainer.accelerator to cpu"
            )
        y: Tensor = _Product.apply(x.to(self.weight.dtype), self.weight, self.bias, self)
        return y

    @torch.no_grad()
    def set_active(self, positions: Tensor, moments: Iterable[Tensor] = ()) -> None:
        """See the interface; a gradient that waits for its optimizer step moves along.

        Raises:
            RuntimeError: If the number of connections changes where DDP has laid out its buckets for it.
        """
        if len(positions) != len(self.weight) and _world_size() > 1:
            raise RuntimeError(
                f"storage csr keeps its number of connections under DDP ({len(self.weight)}, now {len(positions)}): "
                "set model.storage to masked for rules that change it"
            )
        moments = list(moments)
        before = self.active_positions()
        place = torch.searchsorted(before, positions).clamp_(max=max(0, len(before) - 1))
        stays = before[place] == positions if len(before) else torch.zeros_like(positions, dtype=torch.bool)
        gradient = [] if self.weight.grad is None else [self.weight.grad]
        moved = [torch.where(stays, t[place], 0) if len(before) else t.new_zeros(len(positions))
                 for t in (self.weight.data, *moments, *gradient)]  # fmt: skip
        self.weight.grad = None
        self.weight.data = moved[0]
        for tensor, values in zip(moments, moved[1:], strict=False):
            tensor.data = values
        if gradient:
            self.weight.grad = moved[-1]
        self.structure = Structure(positions.numpy(), self.out_features, self.in_features)

    def compress(self, moment: Tensor) -> Tensor:
        """See the interface; it is so already."""
        return moment

    def expand(self, moment: Tensor, positions: Tensor) -> Tensor:
        """See the interface."""
        return moment

    def apply_mask(self, moments: Iterable[Tensor] = ()) -> None:
        """See the interface; there is nothing where no connection is."""

    @torch.no_grad()
    def mask_gradient(self) -> None:
        """See the interface: connections that a rule has just grown have a gradient as well."""
        if self._recorded and self.weight.grad is not None:
            parts = [_dots(self.structure, x, g) for x, g in self._recorded]
            self.weight.grad.copy_(_average(torch.stack(parts).sum(dim=0)))

    def dense_gradient(self, neurons: slice = slice(None)) -> Tensor:
        """See the interface; on every process at once, because the blocks are averaged over them."""
        if not self._recorded:
            raise RuntimeError("no dense gradient: set record_dense_gradient before the forward pass")
        parts = [g[:, neurons] @ x.transpose(1, 2) for x, g in self._recorded]
        return _average(torch.cat(parts).sum(dim=0))

    def gradient_magnitude(self) -> Tensor:
        """See the interface."""
        if self.weight.grad is None:
            raise RuntimeError("no gradient yet: call it between the backward pass and the optimizer step")
        total = torch.zeros(self.out_features, dtype=self.weight.dtype)
        return total.index_add_(0, torch.from_numpy(self.structure.neurons), self.weight.grad.abs())

    def note(self, x: Tensor, g: Tensor) -> None:
        """Keep what the dense gradient is made of: tiles of inputs and of gradients, by micro-batch."""
        if self.weight.grad is None:  # the first backward pass of an optimizer step
            self._recorded.clear()
        if self.record_dense_gradient:
            self._recorded.append((x, g))


class _Product(torch.autograd.Function):
    """``x Wᵀ + b`` over the connections of a layer."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor, layer: CSRLinear) -> Tensor:
        tiles = _packed(x)
        ctx.layer, ctx.structure, ctx.n_rows = layer, layer.structure, len(x)
        ctx.save_for_backward(tiles, values)
        return _unpacked(_multiplied(ctx.structure.rows, values, tiles, bias), len(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        tiles, values = ctx.saved_tensors
        structure, (gradient,) = ctx.structure, gradients
        g = _packed(gradient.to(values.dtype))
        ctx.layer.note(tiles, g)
        to_input = None
        if ctx.needs_input_grad[0]:
            half, order = structure.columns()
            to_input = _unpacked(_multiplied(half, values, g, order=order), ctx.n_rows)
        return to_input, _dots(structure, tiles, g), gradient.sum(dim=0), None


def _packed(batch: Tensor) -> Tensor:
    """Tiles of a batch; the narrowest width that holds it in one, or the widest."""
    batch = batch.contiguous()
    n_rows, n = batch.shape
    width = next((w for w in _WIDTHS if w >= n_rows), _WIDTHS[-1])
    tiles = batch.new_empty(-(-n_rows // width), n, width)
    _run(pack, tiles, n_rows, n, len(tiles), batch.data_ptr(), tiles.data_ptr())
    return tiles


def _unpacked(tiles: Tensor, n_rows: int) -> Tensor:
    n_tiles, n, _ = tiles.shape
    batch = tiles.new_empty(n_rows, n)
    _run(unpack, tiles, n_rows, n, n_tiles, batch.data_ptr(), tiles.data_ptr())
    return batch


def _multiplied(
    half: Half, values: Tensor, tiles: Tensor, bias: Tensor | None = None, order: IndexVector | None = None
) -> Tensor:
    """``bias + values[order] · tiles`` over the rows of ``half``."""
    n_tiles, n_in, width = tiles.shape
    n_rows = half.blocks.shape[1]
    out = tiles.new_empty(n_tiles, n_rows, width)
    shape = (n_tiles, n_rows, n_in, len(half.blocks) - 1)
    connections = (half.blocks.ctypes.data, half.indices.ctypes.data, 0 if order is None else order.ctypes.data)
    sources = (values.data_ptr(), tiles.data_ptr(), 0 if bias is None else bias.data_ptr())
    _run(multiply, tiles, *shape, *connections, *sources, out.data_ptr())
    return out


def _dots(structure: Structure, tiles: Tensor, g: Tensor) -> Tensor:
    """Gradient to the values: at each connection the product of its input and its neuron's gradient."""
    half = structure.rows
    out = tiles.new_empty(len(half.indices))
    shape = (tiles.shape[0], g.shape[1], tiles.shape[1], len(half.blocks) - 1)
    sources = (half.blocks.ctypes.data, half.indices.ctypes.data, tiles.data_ptr(), g.data_ptr())
    _run(connection_dots, tiles, *shape, *sources, out.data_ptr())
    return out


def _run(kernel: Callable[[int, int], int], tiles: Tensor, *arguments: int) -> None:
    """Run a kernel, compiled for the tiles' number type and width, on as many threads as torch uses."""
    run(kernel(tiles.element_size(), tiles.shape[2]), torch.get_num_threads(), *arguments)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _average(tensor: Tensor) -> Tensor:
    """Mean over the processes, in place."""
    if _world_size() > 1:
        dist.all_reduce(tensor)
        tensor /= _world_size()
    return tensor
