"""Examples on their data sets: dense, static sparse, and RigL.

``python -m benchmarks.examples --example resnet --kinds dense,static,rigl --out results.jsonl`` trains each kind as
configured in ``conf/examples/resnet.yaml``, with equal initial weights and order of batches, and prints one line of
JSON for each run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from jsonargparse import ArgumentParser

from psn_lightning.callbacks import MaskReapply, RigL, Sparsify
from psn_lightning.nn import SparsityTable, describe

CONF = Path(__file__).parent.parent / "conf" / "examples"
KINDS: dict[str, tuple[type[pl.Callback], ...]] = {"dense": (), "static": (Sparsify,), "rigl": (Sparsify, RigL)}


@dataclass
class Example:
    """Objects of a configuration."""

    model: pl.LightningModule
    """Dense model."""
    data: pl.LightningDataModule
    """Data set."""
    callbacks: list[pl.Callback]
    """Callbacks of the Trainer."""
    limits: dict[str, Any]
    """Other arguments of the Trainer."""


class StepTimer(pl.Callback):
    """Times training steps: forward, backward, topology update, optimizer and masks, without the loading of data."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        """Seconds of each step."""
        self._start = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        self._start = _read_clock(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock, and append the seconds of the step."""
        self.seconds.append(_read_clock(pl_module) - self._start)


def _read_clock(pl_module: pl.LightningModule) -> float:
    """Read the clock when the device has finished its work."""
    if pl_module.device.type != "cpu":
        torch.accelerator.synchronize(pl_module.device)
    return time.perf_counter()


def make(name: str) -> Example:
    """Make the model, data and callbacks of ``conf/examples/<name>.yaml``."""
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    trainer = config["trainer"]
    parser = ArgumentParser()
    parser.add_subclass_arguments(pl.LightningModule, "model")
    parser.add_subclass_arguments(pl.LightningDataModule, "data")
    parser.add_argument("--callbacks", type=list[pl.Callback])
    parts = {"model": config["model"], "data": config["data"], "callbacks": trainer.pop("callbacks", [])}
    made = parser.instantiate_classes(parser.parse_object(parts))
    return Example(made.model, made.data, made.callbacks, trainer)


def run(name: str, kind: str, seed: int, epochs: int | None = None, **limits: Any) -> dict[str, Any]:
    """Train an example and test it.

    Args:
        name: Name of the configuration.
        kind: ``dense``, ``static`` or ``rigl``.
        seed: Seed of weights, topology and data order.
        epochs: Number of epochs; the configured one if None.
        limits: Further arguments of the Trainer.

    Returns:
        Metrics, sizes and times, ready for JSON.
    """
    pl.seed_everything(seed, verbose=False)
    example = make(name)
    timer = StepTimer()
    chosen = [callback for callback in example.callbacks if isinstance(callback, KINDS[kind])]
    last: list[pl.Callback] = [MaskReapply(), timer] if chosen else [timer]
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    settings = example.limits | quiet | limits | ({} if epochs is None else {"max_epochs": epochs})
    trainer = pl.Trainer(**settings, callbacks=[*chosen, *last])
    parameters = sum(parameter.numel() for parameter in example.model.parameters())
    start = time.perf_counter()
    trainer.fit(example.model, example.data)
    seconds = time.perf_counter() - start
    val = _round_metrics(trainer, "val")
    trainer.test(example.model, example.data, verbose=False)
    at_start = next((callback.table for callback in chosen if isinstance(callback, Sparsify)), None)
    at_end = describe(example.model)
    return {
        "example": name,
        "kind": kind,
        "seed": seed,
        "epochs": trainer.max_epochs,
        "steps": trainer.global_step,
        **val,
        **_round_metrics(trainer, "test"),
        "seconds_per_step": round(statistics.median(timer.seconds), 5),
        "seconds_of_fit": round(seconds, 2),
        "threads": torch.get_num_threads(),
        "device": str(trainer.strategy.root_device),
        "parameters": parameters,
        "active_parameters": parameters - sum(row.positions - row.connections for row in at_end),
        "sparsity": round(at_end.sparsity, 6) if len(at_end) else 0.0,
        "ccv_at_start": _list_ccv(at_start),
        "ccv": _list_ccv(at_end),
    }


def _round_metrics(trainer: pl.Trainer, stage: str) -> dict[str, float]:
    """Round the metrics of a stage."""
    return {
        name: round(float(value), 6) for name, value in trainer.callback_metrics.items() if name.startswith(f"{stage}/")
    }


def _list_ccv(table: SparsityTable | None) -> dict[str, float]:
    """List the CCV, the coefficient of variation of the fan-in (std / mean), by layer."""
    return {row.name: round(row.ccv, 4) for row in table or ()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the kinds one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(path.stem for path in CONF.glob("*.yaml") if "class_path: Sparsify" in path.read_text())
    parser.add_argument("--example", choices=names, required=True)
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, help="number of epochs; default: the configured one")
    parser.add_argument("--limit_batches", type=int, help="batches of an epoch in training, validation and test")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--out", type=Path, help="file to which each line is appended")
    options = parser.parse_args(arguments)
    kinds = options.kinds.split(",")
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"--kinds {','.join(unknown)} is not one of {', '.join(KINDS)}")
    limits: dict[str, Any] = {"accelerator": options.accelerator}
    if options.limit_batches is not None:
        limits |= dict.fromkeys((f"limit_{part}_batches" for part in ("train", "val", "test")), options.limit_batches)
    for kind in kinds:
        line = json.dumps(run(options.example, kind, options.seed, options.epochs, **limits))
        print(line, flush=True)
        if options.out is not None:
            with options.out.open("a") as file:
                file.write(f"{line}\n")


if __name__ == "__main__":
    main()
