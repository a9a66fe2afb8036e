"""Inputs and gradients of a layer, summed over the rows of a batch: what is known of a gradient without its matrix.

The gradient to the weight of neuron i and input j is Σ_b δ_bi h_bj over the rows b, with inputs h and gradients δ to
the output. Of a convolution every place of the kernel is a row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import grad
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from psn_lightning.nn.processes import average_over_processes, get_rank
from psn_lightning.nn.torch_private import get_padding

Pass = tuple[Tensor, Tensor]
"""Input and gradient to the output of one backward pass."""

_WEIGHT_GRADIENTS: dict[int, Any] = {1: grad.conv1d_weight, 2: grad.conv2d_weight, 3: grad.conv3d_weight}


class Activity(NamedTuple):
    """Sums over the rows of a batch, averaged over processes; not negative."""

    by_neuron: Tensor
    """Σ_b |δ_bi|, or |Σ_b ε_b δ_bi| with random signs ε, shape ``(n_out,)``."""
    by_input: Tensor
    """The same of h, shape ``(n_groups, n_in)``; a convolution with groups has one row for each of them."""


class ActivityRecorder:
    """Recorder of a module's inputs, and of the gradients to its output, until it is removed.

    Args:
        module: Linear or convolution.
    """

    def __init__(self, module: nn.Module) -> None:
        self.passes: list[Pass] = []
        """Backward passes since the recorder was made."""
        self._handle = module.register_forward_hook(self._watch, with_kwargs=True)

    def _watch(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
        if output.requires_grad:
            x = (inputs[0] if inputs else named["input"]).detach()
            register: Any = output.register_hook
            register(lambda g: self.passes.append((x, g.detach())))

    def remove(self) -> None:
        """Remove the hook."""
        self._handle.remove()


def shows_activity(module: nn.Module, name: str) -> bool:
    """Return whether a module calls forward with the inputs of a parameter; torch's attention does not."""
    known = isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return name == "weight" and known and not isinstance(module, NonDynamicallyQuantizableLinear)


def draw_seed(generator: torch.Generator | None) -> int | None:
    """Draw the seed of this process's random signs from a generator that is in the same state on every process."""
    if generator is None:
        return None
    return int(torch.randint(2**62, (), generator=generator)) + get_rank()  # rows of two processes need two signs


def sum_features(passes: Iterable[Pass], activity: Activity, seed: int | None) -> Activity:
    """Sum the rows of passes that are stored by feature.

    Args:
        passes: Inputs, shape ``(n_in, rows)``, and gradients, shape ``(n_out, rows)``, of each pass.
        activity: Zeros that the sums are added to, in place.
        seed: Seed of the random signs; None sums magnitudes.
    """
    signs = None if seed is None else torch.Generator().manual_seed(seed)
    for x, g in passes:
        epsilon = None if signs is None else _draw_signs(x.shape[1:], signs, x)
        for total, part in ((activity.by_input[0], x), (activity.by_neuron, g)):
            total += torch.linalg.vector_norm(part, 1, dim=1) if epsilon is None else part @ epsilon
    return _finish(activity)


def sum_module(module: nn.Module, passes: Iterable[Pass], activity: Activity, seed: int | None) -> Activity:
    """Sum the rows of the passes of a Linear or a convolution, see :func:`sum_features`.

    Args:
        module: Module of the passes.
        passes: Input and gradient to the output of each pass, in the shapes of the module.
        activity: Zeros that the sums are added to, in place.
        seed: Seed of the random signs; None sums magnitudes.
    """
    if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        rows = [(x.reshape(-1, x.shape[-1]).to(activity.by_neuron), g.reshape(-1, g.shape[-1])) for x, g in passes]
        return sum_features([(x.T, g.to(x).T) for x, g in rows], activity, seed)
    signs = None if seed is None else torch.Generator().manual_seed(seed)
    kernel = module.kernel_size
    for x, g in passes:
        if x.dim() == len(kernel) + 1:  # without a batch
            x, g = x[None], g[None]
        x, g = x.to(activity.by_neuron), g.to(activity.by_neuron)
        places = (len(g), 1, *g.shape[2:])
        if signs is None:
            x, g, epsilon = x.abs(), g.abs(), x.new_ones(places)
        else:
            epsilon = _draw_signs(places, signs, x)
        padded, convolve = F.pad(x, *get_padding(module)), _WEIGHT_GRADIENTS[len(kernel)]
        weight = (1, module.in_channels, *kernel)
        moved: Tensor = convolve(padded, weight, epsilon, module.stride, 0, module.dilation)
        activity.by_input.add_(moved.reshape(activity.by_input.shape))
        activity.by_neuron.add_((g * epsilon).transpose(0, 1).flatten(1).sum(dim=1))
    return _finish(activity)


def _draw_signs(shape: Iterable[int], generator: torch.Generator, like: Tensor) -> Tensor:
    return (2 * torch.randint(2, tuple(shape), generator=generator) - 1).to(like)


def _finish(activity: Activity) -> Activity:
    return Activity(*(average_over_processes(total).abs() for total in activity))
