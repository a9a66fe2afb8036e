"""State dicts of a layer that holds active weights only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.states import ACTIVE_ENTRIES, Connections, read_connections


def read_layer(
    state_dict: Mapping[str, Any], prefix: str, layer: SparseLayer, bias: Tensor | None, missing_keys: list[str]
) -> tuple[Connections | None, Tensor | None]:
    """Read connections, weights and bias of a layer from a state dict of any storage, or of a dense Linear.

    Args:
        state_dict: State dict of the whole module.
        prefix: Prefix of the layer's keys.
        layer: Layer to load; the weights of a dense Linear are read at its present connections.
        bias: Present bias of the layer, or None.
        missing_keys: Extended by the keys that the state dict should have.

    Returns:
        Connections with their weights, and the bias; None for what is missing or the layer has not.

    Raises:
        ValueError: If the entries do not fit the layer or each other.
    """
    names = ["values", "indptr", "indices"] if prefix + "weight" not in state_dict else []
    absent = [prefix + name for name in names if prefix + name not in state_dict]
    found = None
    if not absent:
        found = read_connections(state_dict, prefix, (layer.n_out, layer.n_in))
        found = found or _read_dense(state_dict[prefix + "weight"], layer)
    new_bias = None if bias is None else state_dict.get(prefix + "bias")
    if bias is not None and new_bias is not None and new_bias.shape != bias.shape:
        raise ValueError(f"bias of shape {tuple(new_bias.shape)}, expected ({layer.n_out},)")
    missing_keys.extend(absent + ([prefix + "bias"] if bias is not None and new_bias is None else []))
    return found, new_bias


def _read_dense(weight: Tensor, layer: SparseLayer) -> Connections:
    """Read the weights of a dense Linear at the present connections."""
    if weight.shape != (layer.n_out, layer.n_in):
        raise ValueError(f"weight of shape {tuple(weight.shape)}, expected {(layer.n_out, layer.n_in)}")
    return Connections(layer.connectivity, weight.flatten()[layer.active_positions().to(weight.device)])


def find_unexpected(state_dict: Mapping[str, Any], prefix: str, has_bias: bool) -> Iterator[str]:
    """List the keys of a layer that no storage and no dense Linear has.

    Args:
        state_dict: State dict of the whole module.
        prefix: Prefix of the layer's keys.
        has_bias: Whether the layer has a bias.
    """
    known = {*ACTIVE_ENTRIES, "weight", "weight_mask", "weight_groups", *(["bias"] if has_bias else [])}
    for key in state_dict:
        if key.startswith(prefix) and key.removeprefix(prefix) not in known:
            yield key
