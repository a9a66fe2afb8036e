"""Private names of torch that this package uses, as typed functions; one place to adapt to a new version of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils import _pytree

_IGNORED_BY_DDP = "_ddp_params_and_buffers_to_ignore"


def get_backward_id() -> int:
    """Return the number of the running backward pass, -1 outside of one; nested passes have numbers of their own."""
    return torch._C._current_graph_task_id()


def get_ddp_ignored(module: nn.Module) -> list[str]:
    """Return the names of the parameters and buffers that DDP neither broadcasts nor reduces."""
    return list(getattr(module, _IGNORED_BY_DDP, ()))


def set_ddp_ignored(module: nn.Module, names: Iterable[str]) -> None:
    """Set the names of the parameters and buffers that DDP neither broadcasts nor reduces.

    Args:
        module: Module that DDP will wrap.
        names: Qualified names in the module.
    """
    setattr(module, _IGNORED_BY_DDP, list(names))


def handles_amp_scaling(optimizer: Optimizer) -> bool:
    """Return whether an optimizer unscales gradients itself, as fused optimizers do, instead of the gradient scaler.

    A state dict that was loaded may have switched ``fused`` off, which leaves the optimizer's attribute as it was.
    """
    supports = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
    return supports and all(group.get("fused", True) for group in optimizer.param_groups)


def get_padding(convolution: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[list[int], str]:
    """Return the padding of a convolution as ``torch.nn.functional.pad`` takes it: widths and mode."""
    mode = "constant" if convolution.padding_mode == "zeros" else convolution.padding_mode
    return list(convolution._reversed_padding_repeated_twice), mode


def hold_steps(optimizer: Optimizer, flag: Tensor | None) -> None:
    """Let a fused optimizer leave parameters and state unchanged while a flag on the device is 1.

    The gradient scaler of AMP uses the same attribute for a single step.

    Args:
        optimizer: Optimizer that :func:`handles_amp_scaling`.
        flag: Scalar, float32, 0 or 1; None ends the hold.
    """
    if flag is None:
        vars(optimizer).pop("found_inf", None)
    else:
        vars(optimizer)["found_inf"] = flag


def is_held(optimizer: Optimizer) -> bool:
    """Return whether :func:`hold_steps` keeps an optimizer from stepping at present; waits for the device."""
    return bool(vars(optimizer).get("found_inf", 0))


def map_leaves(function: Callable[[Any], Any], tree: Any, kind: type) -> Any:
    """Copy nested dicts, lists and tuples, with a function applied to the leaves of a type."""
    return _pytree.tree_map_only(kind, function, tree)


def list_leaves(tree: Any) -> list[Any]:
    """Return the leaves of nested dicts, lists and tuples in order."""
    leaves: list[Any] = _pytree.tree_leaves(tree)
    return leaves


def drop_compiled(module: nn.Module) -> None:
    """Undo ``module.compile()``, and ``torch.compile`` of methods, of a module and all modules in it.

    The compiled methods of a copy are still bound to the original: Lightning sets them for ``torch.compile(module)``.
    """
    for part in module.modules():
        part._compiled_call_impl = None
        for name, value in list(vars(part).items()):
            original = getattr(getattr(value, "_torchdynamo_orig_callable", None), "__func__", None)
            if original is not None and original is getattr(type(part), name, None):
                delattr(part, name)
