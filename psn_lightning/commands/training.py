"""``psn-train fit``, ``validate``, ``test``, ``predict``, ``topology`` and ``demo``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence

from psn_lightning.commands.lightning_cli import PSNCLI
from psn_lightning.commands.shipped import PREFIX, find_config
from psn_lightning.commands.topology import show_topology

__all__ = ["PSNCLI", "demo", "fit", "predict", "test", "topology", "validate"]


def fit(arguments: Sequence[str]) -> None:
    """Train a network."""
    _run("fit", arguments)


def demo(arguments: Sequence[str]) -> None:
    """Train the quickstart: RigL on scikit-learn's digits."""
    _run("fit", ["--config", str(find_config(f"{PREFIX}quickstart")), *arguments])


def validate(arguments: Sequence[str]) -> None:
    """Evaluate a checkpoint on the validation split."""
    _run("validate", arguments)


def test(arguments: Sequence[str]) -> None:
    """Evaluate a checkpoint on the test set."""
    _run("test", arguments)


def predict(arguments: Sequence[str]) -> None:
    """Write a checkpoint's predictions to a file."""
    _run("predict", arguments)


def topology(arguments: Sequence[str]) -> None:
    """Show the fan-in of a configured network, without training."""
    silence_libraries()
    cli = PSNCLI(arguments, run=False)
    show_topology(cli.model, cli.trainer, cli.config["figure"])


def _run(command: str, arguments: Sequence[str]) -> None:
    silence_libraries()
    PSNCLI([command, *arguments])


_ADVICE = ("litlogger", "Loading `train_dataloader`", "GPU available:", "TPU available:", "model summary callbacks")


def silence_libraries() -> None:
    """Drop warnings and advice of Lightning that do not concern a user of ``psn-train``."""
    for message in (
        ".*LeafSpec.*is deprecated",  # Lightning's own, on recent torch
        "Checkpoint directory .* exists and is not empty",  # a resumed run's own
        "The dirpath has changed from",  # of the checkpoint that is evaluated, or branched off
        ".*does not have many workers",  # the data are in memory
    ):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    return not any(part in record.getMessage() for part in _ADVICE)
