"""Which weights of a module are sparse, and which could be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.utils import parametrize

from psn_lightning.errors import SettingError
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.masked import masked_layers_of

_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_IGNORED_BY_DDP = "_ddp_params_and_buffers_to_ignore"
_READ_WEIGHTS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)  # of their Linears, without calling them


def sparse_layers(module: nn.Module) -> dict[str, SparseLayer]:
    """The sparse layers of a module by qualified name, in the module's own order.

    A layer whose parameter is ``weight`` is named like its module (``blocks.0.fc1``), others like their parameter
    (``blocks.0.attention.in_proj_weight``). A weight that several modules share is one layer, named after the first.

    Args:
        module: Any module; a copy of a sparse one has layers of its own.
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
                layers[_layer_name(name, parameter)] = layer
    return layers


def ignore_masks(module: nn.Module) -> None:
    """Tell DDP, where it wraps this module, not to broadcast masks before every forward pass.

    Every process has the same masks already: the seed is the same, and updates are computed alike.
    """
    ignored = dict.fromkeys([*getattr(module, _IGNORED_BY_DDP, ()), *_mask_names(module)])
    setattr(module, _IGNORED_BY_DDP, list(ignored))


def stop_ignoring_masks(module: nn.Module) -> None:
    """Undo :func:`ignore_masks`."""
    masks = set(_mask_names(module))
    setattr(module, _IGNORED_BY_DDP, [name for name in getattr(module, _IGNORED_BY_DDP, ()) if name not in masks])


def _mask_names(module: nn.Module) -> Iterator[str]:
    for name, owner in module.named_modules():
        for parameter in masked_layers_of(owner):
            yield ".".join(part for part in (name, f"{parameter}_mask") if part)


@dataclass(frozen=True)
class Weight:
    """A dense weight that may become sparse."""

    name: str
    """Of the layer that it would be."""
    owner: nn.Module
    parameter: str
    """Its name in ``owner``."""
    may_be_replaced: bool
    """Whether ``owner`` is a plain Linear that its parent calls: only then csr can take its place."""

    @property
    def tensor(self) -> nn.Parameter:
        """The weight."""
        tensor: nn.Parameter = getattr(self.owner, self.parameter)
        return tensor

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_out, n_in)`` of the matrix that it is seen as."""
        return self.tensor.shape[0], self.tensor[0].numel()


def select_weights(module: nn.Module, include: list[str] | None, exclude: list[str]) -> list[Weight]:
    """The weights that a module's owner wants sparse.

    Args:
        module: Any module.
        include: Glob patterns of layer names; a pattern that matches no layer is tried on the names of all parameters
            of two or more dimensions. None: every Linear, convolution and attention projection.
        exclude: Glob patterns of layer names to leave dense.

    Raises:
        SettingError: If a pattern matches nothing, nothing is selected, or a weight cannot be made sparse.
    """
    usual = {weight.name: weight for weight in _usual(module)}
    chosen = dict(usual) if include is None else {}
    for pattern in include or ():
        found = {name: weight for name, weight in usual.items() if fnmatchcase(name, pattern)}
        chosen |= found or _by_parameter(module, pattern, usual)
    for pattern in exclude:
        found = {name: weight for name, weight in chosen.items() if fnmatchcase(name, pattern)}
        if not found and not any(fnmatchcase(name, pattern) for name in usual):
            raise SettingError(f"exclude {pattern!r} matches none of {_listed(usual)}")
        chosen = {name: weight for name, weight in chosen.items() if name not in found}
    if not chosen:
        raise SettingError(
            f"{type(module).__name__} has no weight to make sparse: its layers are {_listed(usual)}. "
            "A layer that is made in setup() comes too late: make it in __init__ or configure_model"
        )
    for weight in chosen.values():
        _check(weight)
    names = [(id(owner), name) for owner in module.modules() for name in owner._parameters]
    place = {key: i for i, key in enumerate(names)}
    ordered = sorted(chosen.values(), key=lambda weight: place[id(weight.owner), weight.parameter])
    once = {id(weight.tensor): weight for weight in reversed(ordered)}  # of one that is shared the first
    return [weight for weight in ordered if once[id(weight.tensor)] is weight]


def _layer_name(module: str, parameter: str) -> str:
    parts = [part for part in (module, parameter) if part]
    return module if module and parameter == "weight" else ".".join(parts)


def _usual(module: nn.Module) -> Iterator[Weight]:
    shared = _shared(module)
    for name, owner in module.named_modules():
        if isinstance(owner, nn.MultiheadAttention):
            for projection in _PROJECTIONS:
                if getattr(owner, projection, None) is not None:
                    yield Weight(_layer_name(name, projection), owner, projection, False)
        elif isinstance(owner, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and not isinstance(owner, SparseLayer):
            parent = module.get_submodule(name.rpartition(".")[0]) if name else None
            plain = type(owner) is nn.Linear and parent is not None and not isinstance(parent, _READ_WEIGHTS)
            yield Weight(_layer_name(name, "weight"), owner, "weight", plain and id(owner.weight) not in shared)


def _shared(module: nn.Module) -> set[int]:
    """Identities of the parameters that have several names."""
    ids = [id(parameter) for _, parameter in module.named_parameters(remove_duplicate=False)]
    return {i for i in ids if ids.count(i) > 1} if len(set(ids)) < len(ids) else set()


def _by_parameter(module: nn.Module, pattern: str, usual: dict[str, Weight]) -> dict[str, Weight]:
    found = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        if fnmatchcase(name, pattern) and tensor.dim() >= 2:
            path, _, parameter = name.rpartition(".")
            layer = _layer_name(path, parameter)
            found[layer] = usual.get(layer, Weight(layer, module.get_submodule(path), parameter, False))
    if not found:
        raise SettingError(f"include {pattern!r} matches no layer and no parameter of two dimensions: {_listed(usual)}")
    return found


def _check(weight: Weight) -> None:
    """Refuse a weight that a mask cannot be put on.

    Raises:
        SettingError: With the remedy.
    """
    name, owner, parameter = weight.name, weight.owner, weight.parameter
    if parametrize.is_parametrized(owner, parameter):
        raise SettingError(
            f"{name}: its {parameter} is parametrized ({type(owner.parametrizations[parameter][0]).__name__}), and so "  # type: ignore[index]
            "computed anew in every forward pass: remove_parametrizations first, or exclude it"
        )
    tensor = owner._parameters.get(parameter)
    if tensor is None:
        raise SettingError(
            f"{name}: its {parameter} is not a parameter (torch.nn.utils.prune or weight_norm made it a computed one): "
            "prune.remove or remove_weight_norm first, or exclude it"
        )
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        raise SettingError(f"{name}: its shape is not known yet: pass one batch through the model first")
    if parameter in masked_layers_of(owner):
        raise SettingError(f"{name} is sparse already: densify(model) first, or exclude it")
    if tensor.dim() < 2 or not tensor.is_floating_point() or tensor.layout != torch.strided:
        raise SettingError(f"{name}: only dense floating-point weights of two or more dimensions can be made sparse")
    if isinstance(owner, nn.Embedding) and owner.sparse:
        raise SettingError(f"{name}: an Embedding with sparse=True has sparse gradients: set sparse=False")


def _listed(weights: dict[str, Weight]) -> str:
    names = list(weights)
    return ", ".join(names[:8]) + (f", … ({len(names)} in all)" if len(names) > 8 else "") or "none"
