"""A copy of a network from which saliencies are computed: exact, and the same whatever the storage and the device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from psn_lightning.errors import SettingError
from psn_lightning.nn import densify, sparse_layers
from psn_lightning.nn.torch_private import drop_compiled, list_leaves, map_leaves

Forward = Callable[[nn.Module, Any], tuple[Tensor, Tensor]]
"""Function from a module and a batch to logits ``(…, n_classes)`` and labels ``(…)``."""

_GIVE_FORWARD = "give a function forward(module, batch) that returns both"
_LARGEST = 2**28  # positions: 2 GiB of weights, and as much of each gradient


def classify(module: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
    """Call a module with the features of a batch ``(x, y)``; the default :data:`Forward`.

    Raises:
        SettingError: If the batch is not a pair.
    """
    x, y = split_pair(batch, f": {_GIVE_FORWARD}")
    return module(x), y


def split_pair(batch: Any, advice: str = "") -> tuple[Any, Any]:
    """Split a batch ``(x, y)`` into features and labels.

    Args:
        batch: Batch.
        advice: End of the error message, which says what to do.

    Raises:
        SettingError: If the batch is not a pair.
    """
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise SettingError(f"the batch is a {type(batch).__name__}, not a pair (x, y){advice}")
    return batch[0], batch[1]


class Twin:
    """Dense copy of a module in float64 on the CPU, in evaluation mode.

    Scores in float32 tie and overflow, csr layers cannot be differentiated twice, and AMP and DDP wrap a module. In
    float64 on one kind of processor all processes and storages get the same masks.

    Args:
        module: Module with sparse layers, see :func:`psn_lightning.sparsify`.
        forward: Function from module and batch to logits and labels.

    Raises:
        SettingError: If the module has no sparse layer, or too many positions.
    """

    def __init__(self, module: nn.Module, forward: Forward = classify) -> None:
        layers = sparse_layers(module)
        if not layers:
            raise SettingError(f"{type(module).__name__} has no sparse layer: call psn_lightning.sparsify first")
        positions = sum(layer.n_out * layer.n_in for layer in layers.values())
        if positions > _LARGEST:
            raise SettingError(
                f"saliencies need dense float64 copies of the weights, and {positions:,} positions are more than "
                f"{_LARGEST:,}: choose a smaller network, or a sparse start by its topology"
            )
        self.masks = {name: layer.mask.detach().cpu().clone() for name, layer in layers.items()}
        """Active connections by layer name, boolean, shape ``(n_out, n_in)``."""
        self.module = densify(copy.deepcopy(module)).to("cpu", torch.float64).eval()
        drop_compiled(self.module)
        """Copy of the module."""
        self.weights = {name: _find_parameter(self.module, name).requires_grad_() for name in layers}
        """Weights of the sparse layers by name, in the shape that the module has them, 0 where no connection is."""
        self._forward = forward

    def call(self, batch: Any) -> tuple[Any, Any]:
        """Call the forward function with the copy and a batch."""
        with sdpa_kernel(SDPBackend.MATH):  # the only one that can be differentiated twice
            return self._forward(self.module, batch)

    def logits(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Compute the logits ``(rows, n_classes)`` and the labels ``(rows,)`` of a batch.

        Raises:
            SettingError: If the forward function returns something else.
        """
        logits, labels = self.call(move_batch(batch))
        if not isinstance(logits, Tensor) or logits.shape[:-1] != labels.shape or labels.is_floating_point():
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise SettingError(
                f"saliencies need logits (…, n_classes) and class numbers (…), not {shape} and {labels.dtype} "
                f"{tuple(labels.shape)}: {_GIVE_FORWARD}"
            )
        return logits.flatten(0, -2), labels.flatten()

    def losses(self, batches: Iterable[Any], temperature: float = 1.0) -> Iterable[Tensor]:
        """Compute the share of each batch in the mean cross-entropy over all rows; the shares add up to it.

        Args:
            batches: Batches that the forward function takes.
            temperature: Divisor of the logits.
        """
        listed = list(batches)
        n_rows = sum(self._count_rows(batch) for batch in listed)
        for batch in listed:
            logits, labels = self.logits(batch)
            yield F.cross_entropy(logits / temperature, labels, reduction="sum") / n_rows

    def _count_rows(self, batch: Any) -> int:
        with torch.no_grad():
            return self.logits(batch)[1].numel()

    def parameters(self) -> list[nn.Parameter]:
        """List the trainable parameters: those of the sparse layers, biases, norms, the output layer."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def restrict(self, masks: Mapping[str, Tensor]) -> None:
        """Remove connections.

        Args:
            masks: Connections that stay active by layer name, boolean, shape ``(n_out, n_in)``.
        """
        for name, mask in masks.items():
            self.masks[name] = mask
            self.weights[name].masked_fill_(~mask.view_as(self.weights[name]), 0)

    def as_matrices(self, tensors: Iterable[Tensor]) -> dict[str, Tensor]:
        """Name tensors in the order and shape of :attr:`weights`, as matrices ``(n_out, n_in)``."""
        return {name: tensor.detach().flatten(1) for name, tensor in zip(self.weights, tensors, strict=True)}


def differentiate(
    value: Tensor, tensors: Sequence[Tensor], retain_graph: bool = False, create_graph: bool = False
) -> list[Tensor]:
    """Differentiate a scalar, with zeros for tensors that it does not depend on.

    Args:
        value: Scalar.
        tensors: Tensors of the twin's forward pass.
        retain_graph: Whether the graph is used again.
        create_graph: Whether the gradients are differentiated themselves.

    Raises:
        SettingError: If it depends on none of them: every score would be 0, and the first positions would stay.
    """
    parts = torch.autograd.grad(
        value, tensors, allow_unused=True, retain_graph=retain_graph or create_graph, create_graph=create_graph
    )
    if all(part is None for part in parts):
        raise SettingError(
            "the loss does not depend on any sparse weight of the copy that is scored: the forward function has to "
            f"call the module that it is given, not another one; {_GIVE_FORWARD}"
        )
    return [torch.zeros_like(t) if part is None else part for part, t in zip(parts, tensors, strict=True)]


def move_batch(batch: Any) -> Any:
    """Move a nested batch to the CPU, floating-point tensors in float64."""
    return map_leaves(
        lambda leaf: leaf.detach().to("cpu", torch.float64 if leaf.is_floating_point() else leaf.dtype), batch, Tensor
    )


def _find_parameter(module: nn.Module, name: str) -> nn.Parameter:
    """Find the parameter of a sparse layer: the layer's name is that of its module, or of the parameter itself."""
    try:
        return module.get_parameter(name)
    except AttributeError:
        return module.get_parameter(f"{name}.weight" if name else "weight")


def split_rows(batch: Any) -> Iterator[Any]:
    """Split a nested batch into batches of one row."""
    leaves = [leaf for leaf in list_leaves(batch) if isinstance(leaf, Tensor)]
    for row in range(len(leaves[0])):
        yield map_leaves(itemgetter(slice(row, row + 1)), batch, Tensor)
