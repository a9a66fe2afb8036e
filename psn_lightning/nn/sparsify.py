"""Functions that make any module sparse, describe its sparse layers, and make it dense again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.budgets import LayerSettings, connect_layers, make_budgets, resolve_settings
from psn_lightning.nn.init import InitName, check_init, initial_values
from psn_lightning.nn.layer import SparseLayer, StorageKind
from psn_lightning.nn.masked import MaskedLayer, masked_layers_of
from psn_lightning.nn.storages import (
    StorageName,
    check_storage,
    copy_training_state,
    make_active_linear,
    make_dense_linear,
    resolve_storage,
)
from psn_lightning.nn.table import LayerRow, SparsityTable
from psn_lightning.nn.weights import Weight, ignore_masks, select_weights, sparse_layers, stop_ignoring_masks
from psn_lightning.topology import (
    AllocationName,
    Connectivity,
    FanIn,
    LayerBudget,
    SpreadingName,
    Uniform,
    Wired,
    Wiring,
    as_wiring,
    check_sparsity,
    check_spreading,
)
from psn_lightning.topology.statistics import fan_in_ccv

WEIGHT_STREAM = 1_000_003  # part of the seed that separates the random streams of weights from those of topologies


def sparsify(
    module: nn.Module,
    sparsity: float = 0.9,
    topology: FanIn | Wiring | None = None,
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
    """Make the weights of a module sparse, in place.

    All layers together get exactly ``round((1 - sparsity) * positions)`` connections; :class:`BlockSparse` makes whole
    blocks, :class:`Grouped` whole groups, each the nearest number to that. With storage csr, groups or auto, call this
    function before the optimizer is made: parameters are replaced. Storage masked keeps every parameter.

    Args:
        module: Module to change. The weights of ``nn.Linear``, ``nn.Conv1d/2d/3d`` and the projections of
            ``nn.MultiheadAttention`` become sparse, each viewed as a matrix of neurons (first dimension) and inputs
            (other dimensions). Biases, norms and embeddings stay dense.
        sparsity: Share of absent connections over all selected layers, in [0, 1).
        topology: Family of the fan-in (number of inputs of a neuron), or wiring; :class:`Uniform` by default.
        allocation: Densities of the layers: ``uniform``, or ``er`` and ``erk`` (Evci et al., 2020, arXiv 1911.11134:
            proportional to the sum of the weight's dimensions over their product, so that small layers are denser).
        include: Glob patterns of the names of the layers to make sparse, such as ``blocks.*.mlp.*``. A pattern that
            matches no layer is matched against parameter names, so that any weight can be selected. All layers by
            default.
        exclude: Glob patterns of the names of layers to keep dense.
        overrides: Settings by glob pattern of layer names; the first pattern that matches a layer counts.
        storage: ``masked``: a mask beside each weight, on any device; ``csr``: every selected Linear is replaced by
            :class:`CSRLinear`, which stores and multiplies active weights only, on CPUs; ``groups``: by
            :class:`GroupedLinear`, which needs a topology whose neurons share their inputs in groups, on any device;
            ``auto``: csr or groups for the Linears for which it measured faster
            (:func:`~psn_lightning.nn.storages.resolve_storage`), masked for the rest.
        spreading: Choice of the inputs of a neuron with given fan-in: ``random``, ``even`` or ``sequential``. A
            wiring chooses the inputs itself.
        init: Initialisation of the active weights: None keeps their values; ``mean_fan_in``, ``per_neuron``,
            ``linear`` and ``isometry`` draw new ones, see :func:`~psn_lightning.nn.init.initial_values`. A wiring that
            brings values (:class:`Orthogonal`) overwrites the weights.
        min_fan_in: Smallest fan-in of a neuron.
        seed: Seed of topology and of newly drawn weights.
        dry_run: Whether to leave the module unchanged and return the table only.

    Returns:
        Table of the sparse layers.

    Raises:
        SettingError: If a pattern matches nothing, a layer cannot be made sparse, or a value is out of range or has
            no effect.
    """
    check_sparsity(sparsity)
    check_storage(storage)
    weights = select_weights(module, None if include is None else list(include), list(exclude))
    settings = resolve_settings(weights, overrides or {}, LayerSettings(None, topology or Uniform(), storage))
    budgets = make_budgets(weights, settings, sparsity, allocation, min_fan_in)
    topologies = [s.topology or Uniform() for s in settings]
    check_spreading(topologies, spreading)
    streams = [np.random.default_rng([seed, i]) for i in range(len(weights))]
    layers = connect_layers([as_wiring(topology, spreading) for topology in topologies], budgets, streams)
    chosen = zip(weights, settings, budgets, layers, strict=True)
    storages = [_choose_storage(w, s, b, layer.connectivity) for w, s, b, layer in chosen]
    if init is not None:
        check_init(init, layers)
    rows = tuple(
        LayerRow(w.name, tuple(w.tensor.shape), kept, c.n_connections, w.tensor.numel(), fan_in_ccv(c))
        for w, kept, (c, _) in zip(weights, storages, layers, strict=True)
    )
    if dry_run:
        return SparsityTable(rows)
    for i, (weight, kept, layer) in enumerate(zip(weights, storages, layers, strict=True), start=1):
        if init is not None or layer.values is not None:
            _set_weights(weight, layer, init, np.random.default_rng([seed, WEIGHT_STREAM, i]))
        _apply_connectivity(module, weight, layer.connectivity, kept)
    ignore_masks(module)
    return SparsityTable(rows)


def describe(module: nn.Module) -> SparsityTable:
    """Make a table of the present sparse layers of a module.

    Args:
        module: Any module.

    Returns:
        Table with one row for each sparse layer; empty for a dense module.
    """
    rows = []
    for name, layer in sparse_layers(module).items():
        connectivity = layer.connectivity
        shape = tuple(layer.parameter.shape) if layer.storage == "masked" else (layer.n_out, layer.n_in)
        size = layer.n_out * layer.n_in
        rows.append(LayerRow(name, shape, layer.storage, connectivity.n_connections, size, fan_in_ccv(connectivity)))
    return SparsityTable(tuple(rows))


def densify(module: nn.Module) -> nn.Module:
    """Replace all sparse layers of a module by dense ones, in place: masks and hooks are removed, absent weights are 0.

    Args:
        module: Module that :func:`sparsify` made sparse, or a :class:`SparseMLP`.

    Returns:
        The same module.

    Raises:
        ValueError: If the module itself is a layer of storage csr or groups.
    """
    if isinstance(module, SparseLayer):
        raise ValueError(f"{type(module).__name__} cannot be replaced in place: call densify on its parent module")
    stop_ignoring_masks(module)
    for owner in list(module.modules()):
        for masked in list(masked_layers_of(owner).values()):
            masked.remove()
        for name, child in list(owner.named_children()):
            if isinstance(child, SparseLayer):
                setattr(owner, name, make_dense_linear(child))
    return module


def _choose_storage(
    weight: Weight, settings: LayerSettings, budget: LayerBudget, connectivity: Connectivity
) -> StorageKind:
    """Choose the storage of a layer.

    Raises:
        SettingError: If csr or groups is requested for a layer that does not support it.
    """
    tensor, layers = weight.tensor, {weight.name: connectivity}
    if settings.storage == "groups" and not weight.may_be_replaced:
        raise SettingError(
            f"{weight.name} does not support storage groups, which needs an nn.Linear outside of torch's attention "
            "modules and with a weight of its own: use auto or masked"
        )
    if settings.storage == "groups":
        return resolve_storage("groups", budget.sparsity, weight.shape, layers)
    possible = weight.may_be_replaced and tensor.device.type == "cpu" and tensor.dtype in {torch.float32, torch.float64}
    if settings.storage == "csr" and not possible:
        raise SettingError(
            f"{weight.name} does not support storage csr, which needs an nn.Linear in float32 or float64 on the CPU, "
            "outside of torch's attention modules and with a weight of its own: use auto or masked"
        )
    if settings.storage == "masked" or not possible:
        return "masked"
    return resolve_storage(settings.storage or "auto", budget.sparsity, weight.shape, layers)


def _set_weights(weight: Weight, layer: Wired, init: InitName | None, rng: np.random.Generator) -> None:
    """Set the active weights of a layer to those that its wiring brings, or draw new ones."""
    connectivity, values = layer
    if values is None and init is not None:
        values = initial_values(connectivity, init, rng)
    with torch.no_grad():
        mask = torch.from_numpy(connectivity.mask()).view(weight.tensor.shape).to(weight.tensor.device)
        weight.tensor[mask] = torch.from_numpy(values).to(weight.tensor)


def _apply_connectivity(module: nn.Module, weight: Weight, connectivity: Connectivity, storage: StorageKind) -> None:
    """Make one weight of a module sparse in the given storage."""
    if storage == "masked":
        tensor, layer = weight.tensor, MaskedLayer(weight.owner, weight.parameter, connectivity)
        for other in module.modules():
            if other is not weight.owner and any(parameter is tensor for parameter in other.parameters(recurse=False)):
                layer.share(other)
        return
    values = weight.tensor.detach().flatten()[torch.from_numpy(connectivity.keys()).to(weight.tensor.device)]
    bias = weight.owner.bias.detach() if isinstance(weight.owner.bias, nn.Parameter) else None
    parent, _, name = weight.name.rpartition(".")
    replacement = make_active_linear(storage, connectivity, values, bias)
    copy_training_state(replacement, weight.owner)
    setattr(module.get_submodule(parent), name, replacement)
