"""Views of a sparse layer, as a rule sees it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from psn_lightning.dynamics.views import Connections, LayerState
from psn_lightning.nn.layer import SparseLayer


def view_sizes(name: str, layer: SparseLayer, n_initial: int) -> LayerState:
    """View the sizes of a layer, as a rule sees them.

    Args:
        name: Name of the layer.
        layer: Sparse layer.
        n_initial: Number of connections at the start of the run.
    """
    return LayerState(name, layer.n_out, layer.n_in, layer.n_connections, n_initial)


def view_connections(name: str, layer: SparseLayer, n_initial: Mapping[str, int] | None) -> Connections:
    """View the connections of a layer before an update.

    Args:
        name: Name of the layer.
        layer: Sparse layer.
        n_initial: Numbers of connections at the start of the run by layer name; the present number if None.
    """
    positions = layer.active_positions()
    n_active = len(positions)
    state = LayerState(name, layer.n_out, layer.n_in, n_active, n_active if n_initial is None else n_initial[name])
    return Connections(state, positions, layer.active_values(), lambda: _read_gradient(layer))


def _read_gradient(layer: SparseLayer) -> Tensor:
    """Return the gradient of the active connections; zeros if the layer has no part in the loss."""
    gradient = layer.parameter.grad
    return torch.zeros_like(layer.active_values()) if gradient is None else layer.compress(gradient)
