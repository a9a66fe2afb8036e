"""Weights of a sparse network in a safetensors file: of a sparse weight the active connections only."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from psn_lightning.checkpoints.stored_layers import StoredLayer, read_layers
from psn_lightning.nn.states import ACTIVE_ENTRIES, make_active_state
from psn_lightning.topology import Connectivity

SHAPES = "psn_lightning.sparse"
"""Entry of the file's metadata: JSON, key of each sparse weight → its dense shape."""

_PARTS = ("values", "offsets", "indices")


def save_sparse(model: nn.Module, path: Path) -> None:
    """Write the weights of a model.

    A sparse weight ``<key>`` is written as ``<key>.values``, the weights of the active connections by neuron (first
    dimension) and then by input (the other dimensions, flattened); ``<key>.offsets``, where each neuron's begin, and
    the end of the last one's; and ``<key>.indices``, their inputs. Everything else is written as it is.

    Args:
        model: Any module, sparse or dense.
        path: File to write.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    shapes, state = {}, model.state_dict()
    for layer in read_layers(state).values():
        own, key, shape = _entries(layer, state)
        state = {name: entry for name, entry in state.items() if name not in own}
        shapes[key] = shape
        tensors |= {f"{key}.{part}": entry for part, entry in zip(_PARTS, _compress(layer), strict=True)}
    tensors |= {key: entry for key, entry in state.items() if isinstance(entry, Tensor)}
    # copies: the format has no two names for one tensor
    whole = {key: entry.detach().cpu().clone().contiguous() for key, entry in tensors.items()}
    path.write_bytes(save(whole, {"format": "pt", SHAPES: json.dumps(shapes)}))


def load_sparse(path: str | Path) -> dict[str, Tensor]:
    """Read weights that ``psn-train export --format safetensors`` wrote, as a state dict of the dense model.

    Args:
        path: File.

    Returns:
        State dict with dense weights, 0 at absent connections; ``load_state_dict`` of the model before
        :func:`~psn_lightning.sparsify` takes it.

    Raises:
        ValueError: If the file has no description of its sparse weights.
    """
    tensors, shapes = _read(path)
    for key, (n_out, *others) in shapes.items():
        values, offsets, indices = (tensors.pop(f"{key}.{part}") for part in _PARTS)
        neurons = torch.repeat_interleave(torch.arange(n_out), offsets.diff())
        weight = values.new_zeros(n_out, math.prod(others))
        weight[neurons, indices.long()] = values
        tensors[key] = weight.view(n_out, *others)
    return tensors


def load_connections(path: str | Path) -> dict[str, Tensor]:
    """Read the same file as a state dict of the sparse model, without a dense weight.

    Args:
        path: File of a model whose sparse layers are Linear.

    Returns:
        State dict, which sparse layers of any storage load, with the connections of the file.

    Raises:
        ValueError: If the file has no description of its sparse weights, or one that does not fit them, or a sparse
            layer is not Linear.
    """
    tensors, shapes = _read(path)
    for key, (n_out, *others) in shapes.items():
        if len(others) != 1:
            raise ValueError(f"{key} of {path} is not the weight of a Linear: read the file with load_sparse")
        (n_in,) = others
        values, offsets, indices = (tensors.pop(f"{key}.{part}") for part in _PARTS)
        connectivity = Connectivity(n_in, n_out, offsets.numpy(), indices.numpy())
        entries = make_active_state(connectivity, values)
        tensors |= {f"{key.removesuffix('weight')}{name}": entry for name, entry in entries.items()}
    return tensors


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Tensors of a file, and the dense shapes of its sparse weights."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        description = (file.metadata() or {}).get(SHAPES)
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # the file is not a mapping
    if description is None:
        raise ValueError(f"{path} has no sparse weights, only dense ones: read it with safetensors.torch.load_file")
    return tensors, json.loads(description)


def _entries(layer: StoredLayer, state: dict[str, Tensor]) -> tuple[set[str], str, list[int]]:
    """Entries of a layer in a state dict, key and shape of its dense weight."""
    if layer.storage != "masked":
        names = {f"{layer.key}{name}" for name in ACTIVE_ENTRIES}
        return names, f"{layer.key}weight", list(layer.shape)
    return {layer.key, f"{layer.key}_mask", f"{layer.key}_groups"}, layer.key, list(state[layer.key].shape)


def _compress(layer: StoredLayer) -> tuple[Tensor, Tensor, Tensor]:
    """Values, offsets and indices of a layer."""
    n_out, n_in = layer.shape
    neurons, inputs = layer.positions // n_in, layer.positions % n_in
    offsets = torch.zeros(n_out + 1, dtype=torch.int64)
    offsets[1:] = torch.bincount(neurons.cpu(), minlength=n_out).cumsum(0)
    return layer.values, offsets, inputs.to(torch.int32)
