"""The examples on their real data: dense, static sparse, RigL.

``python -m benchmarks.examples --example resnet --kinds dense,static,rigl --out results.jsonl`` trains each kind from
the same initial weights, with the batches in the same order, as ``conf/examples/resnet.yaml`` says, and prints one
line of JSON per run.
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
    """What a configuration describes."""

    model: pl.LightningModule
    data: pl.LightningDataModule
    callbacks: list[pl.Callback]
    limits: dict[str, Any]
    """Other arguments of the Trainer."""


class StepTimer(pl.Callback):
    """Times training steps: forward, backward, topology, optimizer, masks; not the loading of data."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start."""
        self._start = _now(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop."""
        self.seconds.append(_now(pl_module) - self._start)


def _now(pl_module: pl.LightningModule) -> float:
    """The time when the device has done what it was given."""
    if pl_module.device.type != "cpu":
        torch.accelerator.synchronize(pl_module.device)
    return time.perf_counter()


def make(name: str) -> Example:
    """Make what ``conf/examples/<name>.yaml`` describes."""
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    trainer = config["trainer"]
    parser = ArgumentParser()
    parser.add_subclass_arguments(pl.LightningModule, "model")
    parser.add_subclass_arguments(pl.LightningDataModule, "data")
    parser.add_argument("--callbacks", type=list[pl.Callback])
    parts = {"model": config["model"], "data": config["data"], "callbacks": trainer.pop("callbacks")}
    made = parser.instantiate_classes(parser.parse_object(parts))
    return Example(made.model, made.data, made.callbacks, trainer)


def run(name: str, kind: str, seed: int, epochs: int | None = None, **limits: Any) -> dict[str, Any]:
    """Train an example and test it.

    Args:
        name: Name of the configuration.
        kind: ``dense``, ``static`` or ``rigl``.
        seed: Seed of weights, topology and data order.
        epochs: Number of epochs; None: that of the configuration.
        limits: Further arguments of the Trainer.

    Returns:
        Metrics and times, as JSON can keep them.
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
    val = _metrics(trainer, "val")
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
        **_metrics(trainer, "test"),
        "seconds_per_step": round(statistics.median(timer.seconds), 5),
        "seconds_of_fit": round(seconds, 2),
        "threads": torch.get_num_threads(),
        "device": str(trainer.strategy.root_device),
        "parameters": parameters,
        "active_parameters": parameters - sum(row.positions - row.connections for row in at_end),
        "sparsity": round(at_end.sparsity, 6) if len(at_end) else 0.0,
        "ccv_at_start": _ccv(at_start),
        "ccv": _ccv(at_end),
    }


def _metrics(trainer: pl.Trainer, stage: str) -> dict[str, float]:
    return {
        name: round(float(value), 6) for name, value in trainer.callback_metrics.items() if name.startswith(f"{stage}/")
    }


def _ccv(table: SparsityTable | None) -> dict[str, float]:
    """Coefficient of variation of the fan-in (std / mean) by layer."""
    return {row.name: round(row.ccv, 4) for row in table or ()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the kinds one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted(path.stem for path in CONF.glob("*.yaml"))
    parser.add_argument("--example", choices=names, required=True)
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, help="default: that of the configuration")
    parser.add_argument("--limit_batches", type=int, help="batches of an epoch, in training, validation and test")
    parser.add_argument("--accelerator", default="cpu")
    parser.add_argument("--out", type=Path, help="file that each line is appended to")
    options = parser.parse_args(arguments)
    kinds = options.kinds.split(",")
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"--kinds {','.join(unknown)}: choose from {', '.join(KINDS)}")
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
