"""`sparsify` puts a topology on any module; `densify` takes it off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
import torch
from torch import nn

from psn_lightning.errors import SettingError, UnreachableError
from psn_lightning.nn.init import InitName, initial_values
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.masked import MaskedLayer, masked_layers_of
from psn_lightning.nn.storages import StorageName, check_storage, csr_linear, dense_linear, resolve, take_state
from psn_lightning.nn.table import LayerRow, SparsityTable
from psn_lightning.nn.weights import Weight, ignore_masks, select_weights, sparse_layers, stop_ignoring_masks
from psn_lightning.topology import (
    AllocationName,
    Connectivity,
    FanIn,
    LayerBudget,
    SpreadingName,
    Uniform,
    allocate_exactly,
    check_sparsity,
    settle,
    spread,
)
from psn_lightning.topology.connectivity import IntArray
from psn_lightning.topology.fan_in import coefficient_of_variation
from psn_lightning.topology.statistics import fan_in_ccv

WEIGHT_STREAM = 1_000_003  # keeps the weights' random streams apart from the topology's


@dataclass(frozen=True)
class LayerSettings:
    """Settings of the layers that a pattern matches; None takes what holds for all.

    Args:
        sparsity: Sparsity of each of these layers. They are then outside the budget of the others.
        topology: Family of their fan-in.
        storage: How their weights are kept.
    """

    sparsity: float | None = None
    topology: FanIn | None = None
    storage: StorageName | None = None


def sparsify(
    module: nn.Module,
    sparsity: float = 0.9,
    topology: FanIn | None = None,
    allocation: AllocationName = "erk",
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    overrides: Mapping[str, LayerSettings] | None = None,
    storage: StorageName = "masked",
    spreading: SpreadingName = "random",
    init: InitName | None = None,
    min_fan_in: int = 1,
    seed: int = 42,
    dry_run: bool = False,
) -> SparsityTable:
    """Make a module's weights sparse, in place.

    The connections of all layers together are ``round((1 - sparsity) * positions)``, exactly. Call it before the
    optimizer is made where the storage may be csr; masked keeps every parameter.

    Args:
        module: Any module. Sparse become the weights of ``nn.Linear``, ``nn.Conv1d/2d/3d`` and the projections of
            ``nn.MultiheadAttention``; each is seen as a matrix of neurons (the first dimension) and inputs (the
            others). Biases, norms and embeddings stay dense.
        sparsity: Share of absent connections over all selected layers, in [0, 1).
        topology: Family of the fan-in, the number of inputs of each neuron; None is :class:`Uniform`.
        allocation: Density per layer: ``uniform``, ``er`` or ``erk`` (Evci et al., 2020: by the sum of the weight's
            dimensions over their product; small layers stay denser).
        include: Glob patterns of the layers to make sparse, such as ``blocks.*.mlp.*``. A pattern that matches no layer
            is tried on parameter names, so that any weight can be named. None: all layers.
        exclude: Glob patterns of layers to leave dense.
        overrides: Settings of the layers that a glob pattern matches; the first match counts.
        storage: ``masked``: the module stays what it is, with a mask beside each weight, on any device; ``csr``:
            Linears are replaced by :class:`CSRLinear`, which keeps and multiplies the active weights only, on CPUs;
            ``auto``: csr for the Linears for which it measured faster (:func:`psn_lightning.nn.storages.resolve`).
        spreading: Which inputs a neuron reads, given how many: ``random``, ``even`` or ``sequential``.
        init: None keeps the values of the weights that stay; ``mean_fan_in`` and ``per_neuron`` draw them anew, as He
            initialisation by the sparse fan-in does.
        min_fan_in: Smallest fan-in of a neuron.
        seed: Seed of topology and of weights drawn anew.
        dry_run: Only return the table.

    Returns:
        The sparse layers, as a table that prints.

    Raises:
        SettingError: If a pattern matches nothing, a layer cannot be made sparse, or a value is out of range.
    """
    check_sparsity(sparsity)
    check_storage(storage)
    weights = select_weights(module, None if include is None else list(include), list(exclude))
    settings = _settings_of(weights, overrides or {}, LayerSettings(None, topology or Uniform(), storage))
    budgets = _budgets(weights, settings, sparsity, allocation, min_fan_in)
    storages = [_storage(w, s, b) for w, s, b in zip(weights, settings, budgets, strict=True)]
    streams = [np.random.default_rng([seed, i]) for i in range(len(weights))]
    fan_ins = _fan_ins([s.topology or Uniform() for s in settings], budgets, streams)
    rows = tuple(
        LayerRow(w.name, tuple(w.tensor.shape), kept, int(k.sum()), w.tensor.numel(), coefficient_of_variation(k))
        for w, kept, k in zip(weights, storages, fan_ins, strict=True)
    )
    if dry_run:
        return SparsityTable(rows)
    for i, (weight, kept, fan_in, rng) in enumerate(zip(weights, storages, fan_ins, streams, strict=True), start=1):
        connectivity = spread(fan_in, weight.shape[1], spreading, rng)
        if init is not None:
            _draw(weight, connectivity, init, np.random.default_rng([seed, WEIGHT_STREAM, i]))
        _impose(module, weight, connectivity, kept)
    ignore_masks(module)
    return SparsityTable(rows)


def describe(module: nn.Module) -> SparsityTable:
    """The table of a module's sparse layers as they are now."""
    rows = []
    for name, layer in sparse_layers(module).items():
        connectivity = layer.connectivity
        shape = (layer.n_out, layer.n_in) if layer.storage == "csr" else tuple(layer.parameter.shape)
        size = layer.n_out * layer.n_in
        rows.append(LayerRow(name, shape, layer.storage, connectivity.n_connections, size, fan_in_ccv(connectivity)))
    return SparsityTable(tuple(rows))


def densify(module: nn.Module) -> nn.Module:
    """Make a sparse module plain again, in place: no mask, no hook, no csr; absent weights are zeros.

    Args:
        module: A module that :func:`sparsify` made sparse, or a :class:`SparseMLP`.

    Returns:
        The module.

    Raises:
        ValueError: If the module is itself a csr layer: its parent has to be given.
    """
    if isinstance(module, SparseLayer):
        raise ValueError("a csr layer cannot become another class in place: give the module that holds it")
    stop_ignoring_masks(module)
    for owner in list(module.modules()):
        for masked in list(masked_layers_of(owner).values()):
            masked.remove()
        for name, child in list(owner.named_children()):
            if isinstance(child, SparseLayer):
                setattr(owner, name, dense_linear(child))
    return module


def _settings_of(
    weights: Sequence[Weight], overrides: Mapping[str, LayerSettings], default: LayerSettings
) -> list[LayerSettings]:
    """The settings of each layer, with the defaults filled in."""
    for pattern in overrides:
        if not any(fnmatchcase(weight.name, pattern) for weight in weights):
            raise SettingError(f"overrides {pattern!r} matches none of {', '.join(w.name for w in weights)}")
    matched = [next((s for p, s in overrides.items() if fnmatchcase(w.name, p)), LayerSettings()) for w in weights]
    for settings in matched:
        check_storage(settings.storage or default.storage)
    return [LayerSettings(s.sparsity, s.topology or default.topology, s.storage or default.storage) for s in matched]


def _budgets(
    weights: Sequence[Weight],
    settings: Sequence[LayerSettings],
    sparsity: float,
    allocation: AllocationName,
    min_fan_in: int,
) -> list[LayerBudget]:
    """The connections of each layer; those without a sparsity of their own share one budget."""
    shared = [w for w, s in zip(weights, settings, strict=True) if s.sparsity is None]
    counts = iter(allocate_exactly([tuple(w.tensor.shape) for w in shared], sparsity, allocation) if shared else ())
    budgets = []
    for weight, own in zip(weights, settings, strict=True):
        n_out, n_in = weight.shape
        absent = 1 - next(counts) / (n_out * n_in) if own.sparsity is None else own.sparsity
        if absent == 1:
            raise UnreachableError(
                f"sparsity {sparsity} leaves {weight.name} ({n_out} × {n_in}) no connection: exclude it, or "
                "allocate erk"
            )
        budgets.append(LayerBudget(n_in, n_out, absent, min_fan_in, weight.name))
    return budgets


def _fan_ins(
    topologies: Sequence[FanIn], budgets: Sequence[LayerBudget], streams: Sequence[np.random.Generator]
) -> list[IntArray]:
    """Fan-in of each layer's neurons; a layer that is allocated all its positions is dense, whatever the family.

    Raises:
        UnreachableError: With every layer that its family cannot give.
    """
    fan_ins, wrong = [], []
    for family, budget, rng in zip(topologies, budgets, streams, strict=True):
        full = budget.n_connections == budget.n_in * budget.n_out
        try:
            fan_in = np.full(budget.n_out, budget.n_in) if full else settle(family.fan_in(budget, rng), budget)
            fan_ins.append(fan_in)
        except UnreachableError as error:
            wrong.append(str(error))
    if wrong:
        raise UnreachableError(
            f"{'; '.join(wrong[:3])}{f'; and {len(wrong) - 3} more' if len(wrong) > 3 else ''}. Exclude these layers, "
            "give them settings of their own (overrides), or allocate uniformly"
        )
    return fan_ins


def _storage(weight: Weight, settings: LayerSettings, budget: LayerBudget) -> Literal["csr", "masked"]:
    """The storage that a layer gets.

    Raises:
        SettingError: If csr is asked for where it cannot be.
    """
    tensor = weight.tensor
    possible = weight.may_be_replaced and tensor.device.type == "cpu" and tensor.dtype in {torch.float32, torch.float64}
    if settings.storage == "csr" and not possible:
        raise SettingError(
            f"{weight.name} cannot have storage csr, which replaces plain Linears in float32 or float64 on the CPU "
            "(not those inside torch's attention modules, nor shared ones): use auto or masked"
        )
    if settings.storage == "masked" or not possible:
        return "masked"
    return resolve(settings.storage or "auto", budget.sparsity, weight.shape)


def _draw(weight: Weight, connectivity: Connectivity, init: InitName, rng: np.random.Generator) -> None:
    """Give the weights that stay new values."""
    values = torch.from_numpy(initial_values(connectivity, init, rng)).to(weight.tensor)
    with torch.no_grad():
        mask = torch.from_numpy(connectivity.mask()).view(weight.tensor.shape).to(weight.tensor.device)
        weight.tensor[mask] = values


def _impose(module: nn.Module, weight: Weight, connectivity: Connectivity, storage: Literal["csr", "masked"]) -> None:
    """Put a layer's connections on the module."""
    if storage == "masked":
        tensor, layer = weight.tensor, MaskedLayer(weight.owner, weight.parameter, connectivity)
        for other in module.modules():
            if other is not weight.owner and any(parameter is tensor for parameter in other._parameters.values()):
                layer.share(other)
        return
    values = weight.tensor.detach().flatten()[torch.from_numpy(connectivity.keys())]
    bias = weight.owner.bias.detach() if isinstance(weight.owner.bias, nn.Parameter) else None
    parent, _, name = weight.name.rpartition(".")
    replacement = csr_linear(connectivity, values, bias)
    take_state(replacement, weight.owner)
    setattr(module.get_submodule(parent), name, replacement)
