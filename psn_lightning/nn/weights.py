"""Search for the sparse weights of a module and for the weights that can be made sparse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.utils import parametrize

from psn_lightning.errors import SettingError
from psn_lightning.nn.active import ActiveLinear
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.masked import masked_layers_of
from psn_lightning.nn.torch_private import get_ddp_ignored, set_ddp_ignored

_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_READ_WEIGHTS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)  # read the weights of Linears without calling them


def sparse_layers(module: nn.Module) -> dict[str, SparseLayer]:
    """Return the sparse layers of a module by qualified name, in the order of ``module.named_modules()``.

    A layer whose parameter is ``weight`` has the name of its module (``blocks.0.fc1``), other layers have the name of
    their parameter (``blocks.0.attention.in_proj_weight``). A weight that several modules share is one layer, with the
    first name.

    Args:
        module: Any module. A copy of a sparse module has its own layers.

    Returns:
        Layers by name; empty for a dense module.
    """
    layers: dict[str, SparseLayer] = {}
    seen: set[int] = set()
    for name, owner in module.named_modules():
        own: dict[str, SparseLayer] = {"weight": owner} if isinstance(owner, SparseLayer) else {}
        for parameter, masked in masked_layers_of(owner).items():
            masked.attach()
            own[parameter] = masked
        for parameter, layer in own.items():
            if id(layer.parameter) not in seen:
                seen.add(id(layer.parameter))
                layers[_name_layer(name, parameter)] = layer
    return layers


def ignore_masks(module: nn.Module) -> None:
    """Exclude masks from the buffers that DDP broadcasts before every forward pass.

    The masks are equal on all processes: they have the same seed and compute the same updates.

    Args:
        module: Module that DDP will wrap.
    """
    set_ddp_ignored(module, dict.fromkeys([*get_ddp_ignored(module), *_list_mask_names(module)]))


def stop_ignoring_masks(module: nn.Module) -> None:
    """Undo :func:`ignore_masks`."""
    masks = set(_list_mask_names(module))
    set_ddp_ignored(module, [name for name in get_ddp_ignored(module) if name not in masks])


def _list_mask_names(module: nn.Module) -> Iterator[str]:
    """List the names of the buffers that hold masks, groups and structures of sparse layers."""
    for name, owner in module.named_modules():
        own = [f"{parameter}_{kind}" for parameter in masked_layers_of(owner) for kind in ("mask", "groups")]
        if isinstance(owner, ActiveLinear):
            own += [buffer for buffer, _ in owner.named_buffers()]
        buffers = dict(owner.named_buffers())
        yield from (".".join(part for part in (name, buffer) if part) for buffer in own if buffer in buffers)


@dataclass(frozen=True)
class Weight:
    """Dense weight that can be made sparse."""

    name: str
    """Name of the sparse layer."""
    owner: nn.Module
    """Module that holds the parameter."""
    parameter: str
    """Name of the parameter in ``owner``."""
    may_be_replaced: bool
    """Whether ``owner`` is an ``nn.Linear`` that its parent calls, so that another module can replace it."""

    @property
    def tensor(self) -> nn.Parameter:
        """Parameter itself."""
        tensor: nn.Parameter = getattr(self.owner, self.parameter)
        return tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Shape as a matrix of neurons and inputs, ``(n_out, n_in)``."""
        return self.tensor.shape[0], self.tensor[0].numel()


def select_weights(module: nn.Module, include: list[str] | None, exclude: list[str]) -> list[Weight]:
    """Select the weights of a module to make sparse.

    Args:
        module: Any module.
        include: Glob patterns of layer names; a pattern that matches no layer is matched against the names of all
            parameters with two or more dimensions. None selects every Linear, convolution and attention projection.
        exclude: Glob patterns of the names of layers to keep dense.

    Returns:
        Weights in the order of ``module.modules()``, each shared weight once.

    Raises:
        SettingError: If a pattern matches nothing, no weight is selected, or a selected weight cannot be made sparse.
    """
    usual = {weight.name: weight for weight in _find_weights(module)}
    chosen = dict(usual) if include is None else {}
    for pattern in include or ():
        found = {name: weight for name, weight in usual.items() if fnmatchcase(name, pattern)}
        chosen |= found or _match_parameters(module, pattern, usual)
    for pattern in exclude:
        found = {name: weight for name, weight in chosen.items() if fnmatchcase(name, pattern)}
        if not found and not any(fnmatchcase(name, pattern) for name in usual):
            raise SettingError(f"exclude pattern {pattern!r} matches no layer; layers: {_format_names(usual)}")
        chosen = {name: weight for name, weight in chosen.items() if name not in found}
    if not chosen:
        raise SettingError(
            f"no weight of {type(module).__name__} is selected; layers: {_format_names(usual)}. Layers made in setup() "
            "are not found: make them in __init__ or configure_model"
        )
    for weight in chosen.values():
        _check_weight(weight)
    names = [(id(owner), name) for owner in module.modules() for name in _get_own_parameters(owner)]
    place = {key: i for i, key in enumerate(names)}
    ordered = sorted(chosen.values(), key=lambda weight: place[id(weight.owner), weight.parameter])
    once = {id(weight.tensor): weight for weight in reversed(ordered)}  # first name of each shared weight
    return [weight for weight in ordered if once[id(weight.tensor)] is weight]


def _get_own_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of a module without those of its children; a shared parameter under each of its names."""
    return dict(module.named_parameters(recurse=False, remove_duplicate=False))


def _name_layer(module: str, parameter: str) -> str:
    parts = [part for part in (module, parameter) if part]
    return module if module and parameter == "weight" else ".".join(parts)


def _find_weights(module: nn.Module) -> Iterator[Weight]:
    shared = _find_shared(module)
    for name, owner in module.named_modules():
        if isinstance(owner, nn.MultiheadAttention):
            for projection in _PROJECTIONS:
                if getattr(owner, projection, None) is not None:
                    yield Weight(_name_layer(name, projection), owner, projection, False)
        elif isinstance(owner, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and not isinstance(owner, SparseLayer):
            parent = module.get_submodule(name.rpartition(".")[0]) if name else None
            plain = type(owner) is nn.Linear and parent is not None and not isinstance(parent, _READ_WEIGHTS)
            yield Weight(_name_layer(name, "weight"), owner, "weight", plain and id(owner.weight) not in shared)


def _find_shared(module: nn.Module) -> set[int]:
    """Return the ids of the parameters that have several names."""
    ids = [id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False)]
    return {i for i in ids if ids.count(i) > 1} if len(set(ids)) < len(ids) else set()


def _match_parameters(module: nn.Module, pattern: str, usual: dict[str, Weight]) -> dict[str, Weight]:
    found = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        if fnmatchcase(name, pattern) and tensor.dim() >= 2:
            path, _, parameter = name.rpartition(".")
            layer = _name_layer(path, parameter)
            found[layer] = usual.get(layer, Weight(layer, module.get_submodule(path), parameter, False))
    if not found:
        raise SettingError(
            f"include pattern {pattern!r} matches no layer and no parameter of two or more dimensions; layers: "
            f"{_format_names(usual)}"
        )
    return found


def _check_weight(weight: Weight) -> None:
    """Check that a weight can be masked.

    Raises:
        SettingError: If the weight is computed, uninitialised, sparse already, or not a dense floating-point matrix.
    """
    name, owner, parameter = weight.name, weight.owner, weight.parameter
    if parametrize.is_parametrized(owner, parameter):
        raise SettingError(
            f"{name}: {parameter} is parametrized ({type(owner.parametrizations[parameter][0]).__name__}), so every "  # type: ignore[index]
            "forward pass recomputes it: call remove_parametrizations first, or exclude the layer"
        )
    tensor = _get_own_parameters(owner).get(parameter)
    if tensor is None:
        raise SettingError(
            f"{name}: {parameter} is not a parameter but computed (by torch.nn.utils.prune or weight_norm): call "
            "prune.remove or remove_weight_norm first, or exclude the layer"
        )
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        raise SettingError(f"{name}: {parameter} has no shape yet: pass one batch through the model first")
    if tensor.is_meta:
        raise SettingError(
            f"{name}: {parameter} is on the meta device, where a mask has no values: call to_empty first"
        )
    if parameter in masked_layers_of(owner):
        raise SettingError(f"{name} is sparse already: call densify(model) first, or exclude the layer")
    if tensor.dim() < 2 or not tensor.is_floating_point() or tensor.layout != torch.strided:
        raise SettingError(
            f"{name}: {parameter} is {tensor.dtype} of shape {tuple(tensor.shape)} and layout {tensor.layout}; only "
            "strided floating-point weights of two or more dimensions can be made sparse: exclude the layer"
        )
    if isinstance(owner, nn.Embedding) and owner.sparse:
        raise SettingError(f"{name}: nn.Embedding with sparse=True has sparse gradients: set sparse=False")


def _format_names(weights: dict[str, Weight]) -> str:
    names = list(weights)
    return ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "") or "none"
