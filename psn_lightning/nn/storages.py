"""Storages of sparse weights by name: choice, checks, and construction of layers."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.topology import Connectivity

if TYPE_CHECKING:
    from psn_lightning.nn.csr import CSRLinear

StorageName = Literal["auto", "csr", "masked"]
"""Name of a storage of sparse weights; auto chooses."""

CSR_WINS_FROM = 0.6
"""Sparsity from which storage csr is faster than masked on a CPU, measured by ``psn-train bench``."""
CSR_WINS_AT = 2**14
"""Positions of a single Linear from which csr is faster at that sparsity (``python -m benchmarks.crossover``)."""


def check_storage(storage: str | None) -> None:
    """Check the name of a storage.

    Raises:
        SettingError: If the name is unknown.
    """
    if storage not in get_args(StorageName):
        raise SettingError(f"storage {storage!r} is not one of {', '.join(get_args(StorageName))}")


def resolve_storage(
    storage: StorageName, sparsity: float, shape: tuple[int, int] | None = None
) -> Literal["csr", "masked"]:
    """Resolve the storage ``auto``, and replace csr by masked where numba is not installed.

    Args:
        storage: ``masked``: dense weights and a mask, on any device; ``csr``: active weights only, on CPUs;
            ``auto``: csr where it measured faster and the machine has no accelerator, masked elsewhere.
        sparsity: Share of absent connections.
        shape: Shape of a single layer, ``(n_out, n_in)``; None for a network whose layers csr computes in one pass.

    Returns:
        ``csr`` or ``masked``.

    Raises:
        SettingError: If the name is unknown.
    """
    check_storage(storage)
    if storage == "auto":
        is_large = shape is None or prod(shape) >= CSR_WINS_AT
        wins = is_large and sparsity >= CSR_WINS_FROM and not torch.accelerator.is_available()
        storage = "csr" if wins else "masked"
    if storage == "csr" and find_spec("numba") is None:
        warnings.warn("storage csr needs numba, which is not installed: using storage masked instead", stacklevel=2)
        return "masked"
    return storage


def make_csr_linear(connectivity: Connectivity, values: Tensor, bias: Tensor | None) -> CSRLinear:
    """Make a csr layer; numba, which is optional and slow to import, is imported on the first call."""
    from psn_lightning.nn.csr import CSRLinear

    return CSRLinear(connectivity, values, bias)


def make_empty_linear(n_in: int, n_out: int, bias: bool = True, dtype: torch.dtype | None = None) -> nn.Linear:
    """Make a Linear with uninitialised parameters, without drawing random numbers."""
    made: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out, bias=bias, dtype=dtype)  # type: ignore[no-untyped-call]
    return made


def make_dense_linear(layer: SparseLayer) -> nn.Linear:
    """Make a dense Linear with the weights and the bias of a csr layer."""
    values, bias = layer.active_values(), getattr(layer, "bias", None)
    made = make_empty_linear(layer.n_in, layer.n_out, bias is not None, values.dtype)
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
