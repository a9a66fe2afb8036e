"""How a sparse layer keeps its weights, by name."""

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

CSR_WINS_FROM = 0.6
"""Sparsity from which csr is the faster one on a CPU (``make bench``)."""
CSR_WINS_AT = 2**14
"""Positions of a single Linear from which it is so at that sparsity (``python -m benchmarks.crossover``)."""


def check_storage(storage: str | None) -> None:
    """Refuse an unknown name.

    Raises:
        SettingError: If it is one.
    """
    if storage not in get_args(StorageName):
        raise SettingError(f"storage {storage!r} is not one of {', '.join(get_args(StorageName))}")


def resolve(storage: StorageName, sparsity: float, shape: tuple[int, int] | None = None) -> Literal["csr", "masked"]:
    """The storage that ``auto`` stands for.

    Args:
        storage: ``masked``: dense weights and a mask, on any device; ``csr``: active weights only, on CPUs;
            ``auto``: csr where there is no accelerator and it measured faster.
        sparsity: Share of absent connections.
        shape: ``(n_out, n_in)`` of a single layer; None is a network whose layers csr computes as one.

    Raises:
        SettingError: If the name is unknown.
    """
    check_storage(storage)
    if storage == "auto":
        is_large = shape is None or prod(shape) >= CSR_WINS_AT
        wins = is_large and sparsity >= CSR_WINS_FROM and not torch.accelerator.is_available()
        storage = "csr" if wins else "masked"
    if storage == "csr" and find_spec("numba") is None:
        warnings.warn("storage csr needs numba, which is not installed: masked is used instead", stacklevel=2)
        return "masked"
    return storage


def csr_linear(connectivity: Connectivity, values: Tensor, bias: Tensor | None) -> CSRLinear:
    """A csr layer; numba is slow to import, and need not be installed."""
    from psn_lightning.nn.csr import CSRLinear

    return CSRLinear(connectivity, values, bias)


def empty_linear(n_in: int, n_out: int, bias: bool = True, dtype: torch.dtype | None = None) -> nn.Linear:
    """A Linear whose parameters are not set, and for which no random number is drawn."""
    made: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out, bias=bias, dtype=dtype)  # type: ignore[no-untyped-call]
    return made


def dense_linear(layer: SparseLayer) -> nn.Linear:
    """A Linear that computes what a csr layer does."""
    values, bias = layer.active_values(), getattr(layer, "bias", None)
    made = empty_linear(layer.n_in, layer.n_out, bias is not None, values.dtype)
    with torch.no_grad():
        made.weight.zero_().view(-1)[layer.active_positions()] = values
        if bias is not None:
            made.bias.copy_(bias)
    if isinstance(layer, nn.Module):
        take_state(made, layer)
    return made


def take_state(made: nn.Module, replaced: nn.Module) -> None:
    """Give a Linear of one storage what is trained, and the mode, of the one in whose place it comes."""
    made.train(replaced.training)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(getattr(replaced, name).requires_grad)


def csr_computes_in(precision: object) -> bool:
    """Whether csr can do with a Trainer's precision; None is Lightning's default, 32-true."""
    return str(precision or "32-true").removesuffix("-true") in {"32", "64"}


def check_csr_precision(precision: object) -> None:
    """Refuse a Trainer's precision that the csr storage does not compute in.

    Raises:
        SettingError: If it is none of them.
    """
    if not csr_computes_in(precision):
        raise SettingError(
            f"precision {precision} cannot be had with storage csr, which computes in 32 or 64 bit: give "
            "one of 32-true, 64-true, or storage masked"
        )
