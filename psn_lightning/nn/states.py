"""State dicts of sparse layers: what one storage wrote, as the other reads it.

masked writes ``weight`` (dense) and ``weight_mask``; csr writes ``values`` (in the order of positions), ``indptr``,
``indices`` and ``in_features``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from psn_lightning.topology import Connectivity

_CSR = ("values", "indptr", "indices")
IN_FEATURES = "in_features"


class Connections(NamedTuple):
    """A layer's connections and their weights."""

    connectivity: Connectivity
    values: Tensor


def csr_state(connectivity: Connectivity, values: Tensor) -> dict[str, Tensor]:
    """What csr writes of a layer, without the prefix."""
    return {
        IN_FEATURES: torch.tensor(connectivity.n_in),
        "values": values,
        "indptr": torch.tensor(connectivity.indptr),
        "indices": torch.tensor(connectivity.indices),
    }


def read_connections(state_dict: Mapping[str, Any], prefix: str, shape: tuple[int, int]) -> Connections | None:
    """A layer's connections in a state dict of either storage.

    Args:
        state_dict: The state dict.
        prefix: Of the layer's keys: ``network.fc1.``.
        shape: ``(n_out, n_in)`` of the layer.

    Returns:
        None where the state dict has neither.

    Raises:
        ValueError: If they do not fit the layer, or each other.
    """
    if all(prefix + key in state_dict for key in _CSR):
        return _read_csr(state_dict, prefix, shape)
    if f"{prefix}weight" in state_dict and f"{prefix}weight_mask" in state_dict:
        weight, mask = (torch.as_tensor(state_dict[prefix + key]) for key in ("weight", "weight_mask"))
        if weight.shape != shape or mask.shape != shape or mask.dtype != torch.bool:
            raise ValueError(f"the checkpoint has shape {tuple(weight.shape)}, the layer {shape}")
        return Connections(Connectivity.from_mask(mask.cpu().numpy()), weight[mask])
    return None


def _read_csr(state_dict: Mapping[str, Any], prefix: str, shape: tuple[int, int]) -> Connections:
    n_out, n_in = shape
    values, indptr, indices = (torch.as_tensor(state_dict[prefix + key]) for key in _CSR)
    inputs = int(state_dict.get(prefix + IN_FEATURES, n_in))
    if inputs != n_in:
        raise ValueError(f"the checkpoint has {inputs} inputs, the layer {n_in}")
    if values.shape != indices.shape or not values.dtype.is_floating_point:
        raise ValueError(f"{values.numel()} weights of {indices.numel()} connections")
    if indptr.numel() != n_out + 1:
        raise ValueError(f"the checkpoint has {indptr.numel() - 1} neurons, the layer {n_out}")
    try:
        return Connections(Connectivity(n_in, n_out, indptr.cpu().numpy(), indices.cpu().numpy()), values)
    except TypeError as error:
        raise ValueError(error) from error


def masked_state(state_dict: dict[str, Any], prefix: str, name: str, mask: Tensor) -> None:
    """Rewrite a layer's entries of a state dict, in place, as masked reads them.

    Args:
        state_dict: Of csr, of masked, or of a dense model, whose weights get the present mask.
        prefix: Of the module's keys.
        name: Name of the parameter.
        mask: The present mask, in the weight's shape.

    Raises:
        ValueError: If the entries do not fit the layer, or each other.
    """
    weight_key, mask_key = f"{prefix}{name}", f"{prefix}{name}_mask"
    if name == "weight" and mask.dim() == 2 and prefix + "values" in state_dict:
        found = read_connections(state_dict, prefix, (mask.shape[0], mask.shape[1]))
        if found is None:
            return
        for key in (*_CSR, IN_FEATURES):
            state_dict.pop(prefix + key, None)
        dense = found.values.new_zeros(mask.shape)
        new = torch.from_numpy(found.connectivity.mask())
        dense[new.to(dense.device)] = found.values
        state_dict[weight_key], state_dict[mask_key] = dense, new
    elif weight_key in state_dict:
        weight = state_dict[weight_key]
        new = state_dict.setdefault(mask_key, mask.clone())
        if isinstance(weight, Tensor) and isinstance(new, Tensor) and weight.shape == new.shape == mask.shape:
            if new.dtype != torch.bool:
                raise ValueError(f"{mask_key} is not boolean")
            state_dict[weight_key] = weight.detach().masked_fill(~new.to(weight.device), 0)
