"""How a sparse layer keeps its weights, by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.masked import MaskedLinear
from psn_lightning.nn.sparse_linear import SparseLinear

StorageName = Literal["auto", "csr", "masked"]

CSR_WINS_FROM = 0.6
"""Sparsity from which csr is the faster one on a CPU (``make bench``)."""


def resolve(storage: StorageName, sparsity: float) -> Literal["csr", "masked"]:
    """The storage that ``auto`` stands for.

    Args:
        storage: ``masked``: dense weights times a mask, on any device; ``csr``: active weights only, on CPUs;
            ``auto``: csr where there is no accelerator and the sparsity is at least :data:`CSR_WINS_FROM`.
        sparsity: Target sparsity of the hidden layers.

    Raises:
        SettingError: If the name is unknown.
    """
    if storage not in get_args(StorageName):
        raise SettingError(f"storage {storage!r} is not one of {', '.join(get_args(StorageName))}")
    if storage == "auto":
        storage = "masked" if torch.accelerator.is_available() or sparsity < CSR_WINS_FROM else "csr"
    if storage == "csr" and find_spec("numba") is None:
        warnings.warn("storage csr needs numba, which is not installed: masked is used instead", stacklevel=2)
        return "masked"
    return storage


def csr_computes_in(precision: object) -> bool:
    """Whether csr can do with a Trainer's precision; None is Lightning's default, 32-true."""
    return str(precision or "32-true").removesuffix("-true") in {"32", "64"}


def layer_class(storage: Literal["csr", "masked"]) -> type[SparseLinear]:
    """The layer that keeps its weights so."""
    if storage == "masked":
        return MaskedLinear
    from psn_lightning.nn.csr import CSRLinear  # numba is slow to import, and need not be there

    return CSRLinear


def at_once(
    storage: Literal["csr", "masked"], layers: Sequence[nn.Module], norms: Sequence[nn.Module], output: nn.Module
) -> Callable[[Tensor], Tensor] | None:
    """What computes the whole network in one go, if the storage has such a thing."""
    if storage == "masked":
        return None
    from psn_lightning.nn.csr import CSRNetwork

    return CSRNetwork(list(zip(layers, norms, strict=True)), output)  # type: ignore[arg-type]


def check_csr_precision(precision: object) -> None:
    """Refuse a Trainer's precision that the csr storage does not compute in.

    Raises:
        SettingError: If it is none of them.
    """
    if not csr_computes_in(precision):
        raise SettingError(
            f"trainer.precision {precision} cannot be had with model.storage csr, which computes in 32 or 64 bit: give "
            "one of 32-true, 64-true, or model.storage masked"
        )
