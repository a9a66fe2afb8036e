"""Choice of the storage of SparseClassifier by the Trainer that is asked for."""

from __future__ import annotations

from typing import Any

import torch

from psn_lightning.commands.trainer import runs_on_cpu
from psn_lightning.errors import SettingError
from psn_lightning.nn.storages import CSR_WINS_FROM, StorageName, check_csr_precision, csr_computes_in


def choose_storage(storage: StorageName | None, sparsity: float | None, trainer: Any) -> StorageName | None:
    """Resolve storage ``auto`` where the run does not use the device that the model would ask for when it is made.

    Args:
        storage: Setting ``model.storage``; None if the user's subclass has none.
        sparsity: Setting ``model.sparsity``; None if the user's subclass has none.
        trainer: Settings of the Trainer.

    Returns:
        The same storage, or masked or csr in the place of auto.

    Raises:
        SettingError: If storage csr is asked for, and the Trainer's device or precision is not one of csr's.
    """
    on_cpu = runs_on_cpu(trainer.accelerator)
    if storage == "csr":
        check_csr_precision(trainer.precision)
        if not on_cpu:
            raise SettingError(
                f"model.storage csr computes on the CPU only, and trainer.accelerator is {trainer.accelerator!r}: "
                "set trainer.accelerator to cpu, or model.storage to masked"
            )
    alone = trainer.strategy == "auto" and trainer.devices in ("auto", 1, "1") and trainer.num_nodes == 1
    possible = alone and on_cpu and csr_computes_in(trainer.precision)
    if storage != "auto" or possible != torch.accelerator.is_available():
        return storage
    return "csr" if possible and sparsity is not None and sparsity >= CSR_WINS_FROM else "masked"
