"""Counts that rules which change the density end at, of each layer or of all layers together."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from psn_lightning.dynamics.selection import select_top
from psn_lightning.dynamics.views import Connections, LayerState
from psn_lightning.errors import SettingError


def count_largest(layers: Mapping[str, Connections], total: int) -> dict[str, int]:
    """Count how many of the ``total`` largest |weight| of all layers are in each layer; at least 1 in each.

    Args:
        layers: Active connections by layer name.
        total: Number of connections to select, at least one for each layer; if there are fewer, all are selected.

    Returns:
        Numbers of connections by layer name.
    """
    parts = [connections.weight.abs() for connections in layers.values()]
    for part in parts:
        part[part.argmax()] = torch.inf  # no layer is emptied
    magnitudes = torch.cat(parts)
    largest = torch.zeros(len(magnitudes), dtype=torch.bool, device=magnitudes.device)
    largest[select_top(magnitudes, min(total, len(magnitudes)))] = True
    counts = [int(part.sum()) for part in torch.split(largest, [len(part) for part in parts])]
    return dict(zip(layers, counts, strict=True))


def replace_down_to(remaining: int, layer: LayerState, fraction: float) -> tuple[int, int]:
    """Count the connections to drop and to grow to prune a layer, and to replace a share of what remains.

    Args:
        remaining: Number of connections after the update.
        layer: Sizes of the layer.
        fraction: Share of the remaining connections to replace.
    """
    n_replaced = int(fraction * remaining)
    return layer.n_active - remaining + n_replaced, n_replaced


def check_starts_denser(layers: Mapping[str, LayerState], final_sparsity: float) -> None:
    """Check that a network that is to be pruned starts denser than it ends, and can keep a connection in each layer.

    Args:
        layers: Sizes of the layers by name.
        final_sparsity: Sparsity of all layers together at the end.

    Raises:
        SettingError: If the network starts too sparse, or ends with fewer connections than layers.
    """
    positions = sum(layer.n_positions for layer in layers.values())
    initial, final = sum(layer.n_initial for layer in layers.values()), round((1 - final_sparsity) * positions)
    if final < len(layers):
        raise SettingError(
            f"final_sparsity {final_sparsity} leaves {final} connections for {len(layers)} layers: lower it"
        )
    if initial < final:
        raise SettingError(
            f"initial sparsity {1 - initial / positions:.4f} is above final_sparsity {final_sparsity}: start denser or "
            "raise final_sparsity"
        )


def count_final(layer: LayerState, final_sparsity: float) -> int:
    """Count the connections of a layer at its final sparsity."""
    return round((1 - final_sparsity) * layer.n_positions)


def check_each_starts_denser(layers: Mapping[str, LayerState], final_sparsity: float) -> None:
    """Check that each layer starts denser than it ends, and keeps a connection.

    Args:
        layers: Sizes of the layers by name.
        final_sparsity: Sparsity of each layer at the end.

    Raises:
        SettingError: If a layer starts too sparse, or would be empty.
    """
    for name, layer in layers.items():
        final = count_final(layer, final_sparsity)
        if final == 0:
            raise SettingError(
                f"{name}: final_sparsity {final_sparsity} leaves no connection of this {layer.n_out} × {layer.n_in} "
                "layer: lower final_sparsity or widen the layer"
            )
        if layer.n_initial < final:
            raise SettingError(
                f"{name}: initial sparsity {1 - layer.n_initial / layer.n_positions:.4f} is above final_sparsity "
                f"{final_sparsity}: start denser or raise final_sparsity"
            )
