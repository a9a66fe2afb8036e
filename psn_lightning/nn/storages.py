"""Storages of sparse weights by name: choice, checks, and construction of layers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from math import inf, prod
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.active import ActiveLinear
from psn_lightning.nn.grouped import GroupedLinear
from psn_lightning.nn.layer import SparseLayer, StorageKind
from psn_lightning.topology import Connectivity

if TYPE_CHECKING:
    from psn_lightning.nn.csr import CSRLinear

StorageName = Literal["auto", "csr", "groups", "masked"]
"""Name of a storage of sparse weights; auto chooses."""

CSR_WINS_FROM = 0.6
"""Sparsity from which storage csr is faster than masked on a CPU, measured by ``psn-train bench``."""
CSR_WINS_AT = 2**14
"""Positions of a single Linear from which csr is faster at that sparsity (``python -m benchmarks.crossover``)."""

GROUPS_WIN: Mapping[str, tuple[int, float]] = {"cpu": (16, 0.9)}
"""Size of a group, and sparsity, from which storage groups is faster than masked, by type of device.

Measured by ``psn-train bench``; what has no entry is not measured: GPUs. On CPUs csr is faster than both.
"""


def check_storage(storage: str | None) -> None:
    """Check the name of a storage.

    Raises:
        SettingError: If the name is unknown.
    """
    if storage not in get_args(StorageName):
        raise SettingError(f"storage {storage!r} is not one of {', '.join(get_args(StorageName))}")


def resolve_storage(
    storage: StorageName,
    sparsity: float,
    shape: tuple[int, int] | None = None,
    layers: Mapping[str, Connectivity] | None = None,
) -> StorageKind:
    """Resolve the storage ``auto``, and replace csr by masked where numba is not installed.

    Args:
        storage: ``masked``: dense weights and a mask, on any device; ``csr``: active weights only, on CPUs; ``groups``:
            active weights only, of neurons that share their inputs in groups, on any device; ``auto``: csr or groups
            where it measured faster, masked elsewhere.
        sparsity: Share of absent connections.
        shape: Shape of a single layer, ``(n_out, n_in)``; None for a network whose layers csr computes in one pass.
        layers: Connections of the layers by name; none if they are not known.

    Returns:
        Storage of all these layers.

    Raises:
        SettingError: If the name is unknown, or storage groups is requested for a layer without groups.
    """
    check_storage(storage)
    layers = layers or {}
    if storage == "groups":
        check_groups(layers)
        return "groups"
    if storage == "auto":
        storage = _choose_storage(sparsity, shape, layers)
    if storage == "csr" and find_spec("numba") is None:
        warnings.warn("storage csr needs numba, which is not installed: using storage masked instead", stacklevel=2)
        return "masked"
    return storage


def _choose_storage(sparsity: float, shape: tuple[int, int] | None, layers: Mapping[str, Connectivity]) -> StorageKind:
    """Choose the storage that measured fastest on this machine; see :func:`resolve_storage`."""
    if shape is not None and prod(shape) < CSR_WINS_AT:
        return "masked"
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    size, from_ = GROUPS_WIN.get(accelerator.type if accelerator else "cpu", (inf, 1.0))
    in_groups = bool(layers) and min(made.group_size for made in layers.values()) >= size and sparsity >= from_
    csr_wins = accelerator is None and sparsity >= CSR_WINS_FROM
    if csr_wins and not (in_groups and find_spec("numba") is None):
        return "csr"
    return "groups" if in_groups else "masked"


def check_groups(layers: Mapping[str, Connectivity]) -> None:
    """Check that all layers have groups of neurons that share their inputs, which storage groups needs.

    Raises:
        SettingError: If a layer has none.
    """
    without = [name for name, made in layers.items() if made.groups is None]
    if without:
        raise SettingError(
            f"storage groups needs neurons that share their inputs in groups, which the topology of "
            f"{', '.join(without)} does not make: use the wiring Grouped or BlockSparse, or storage masked or csr"
        )


def make_csr_linear(connectivity: Connectivity, values: Tensor, bias: Tensor | None) -> CSRLinear:
    """Make a csr layer; numba, which is optional and slow to import, is imported on the first call."""
    from psn_lightning.nn.csr import CSRLinear

    return CSRLinear(connectivity, values, bias)


def make_active_linear(
    storage: Literal["csr", "groups"], connectivity: Connectivity, values: Tensor, bias: Tensor | None
) -> ActiveLinear:
    """Make a layer that holds active weights only."""
    make = GroupedLinear if storage == "groups" else make_csr_linear
    return make(connectivity, values, bias)


def make_empty_linear(
    n_in: int,
    n_out: int,
    bias: bool = True,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> nn.Linear:
    """Make a Linear with uninitialised parameters, without drawing random numbers."""
    settings = {"bias": bias, "dtype": dtype, "device": device}
    made: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out, **settings)  # type: ignore[no-untyped-call]
    return made


def make_dense_linear(layer: SparseLayer) -> nn.Linear:
    """Make a dense Linear with the weights and the bias of a layer that holds active weights only."""
    values, bias = layer.active_values(), getattr(layer, "bias", None)
    made = make_empty_linear(layer.n_in, layer.n_out, bias is not None, values.dtype, values.device)
    with torch.no_grad():
        made.weight.zero_().view(-1)[layer.active_positions()] = values
        if bias is not None:
            made.bias.copy_(bias)
    if isinstance(layer, nn.Module):
        copy_training_state(made, layer)
    return made


def copy_training_state(made: nn.Module, replaced: nn.Module) -> None:
    """Copy training mode and ``requires_grad`` of the parameters from a replaced module to its replacement."""
    made.train(replaced.training)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(getattr(replaced, name).requires_grad)


def csr_computes_in(precision: object) -> bool:
    """Return whether storage csr supports a Trainer's precision; None stands for Lightning's default, 32-true."""
    return str(precision or "32-true").removesuffix("-true") in {"32", "64"}


def check_csr_device(device: torch.device) -> None:
    """Check that storage csr supports the device of a run.

    Raises:
        SettingError: If the device is not the CPU.
    """
    if device.type != "cpu":
        raise SettingError(
            f"storage csr computes on the CPU only, not on {device}: use accelerator cpu, or storage masked"
        )


def check_csr_precision(precision: object) -> None:
    """Check that storage csr supports a Trainer's precision.

    Raises:
        SettingError: If the precision is neither 32-true nor 64-true.
    """
    if not csr_computes_in(precision):
        raise SettingError(
            f"precision {precision} is not supported by storage csr, which computes in 32 or 64 bit: use 32-true, "
            "64-true, or storage masked"
        )
