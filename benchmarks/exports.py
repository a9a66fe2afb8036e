"""What each format of ``psn-train export`` keeps, and what it weighs: ``python -m benchmarks.exports``.

Trains three sparse networks on Fashion-MNIST for a short time, exports each in each format, reads the file with the
format's own reader, and compares its logits with the checkpoint's on all test images. Prints a table in Markdown; cells
name the number of images whose class differs, if there are any.
"""

from __future__ import annotations

import copy
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from psn_lightning import load_sparse
from psn_lightning.bench.machine import describe_machine
from psn_lightning.checkpoints.origin import read_config_text
from psn_lightning.commands.export import build
from psn_lightning.commands.starting_point import load_weights
from psn_lightning.commands.training import silence_libraries
from psn_lightning.errors import SettingError
from psn_lightning.export import export_model
from psn_lightning.export.folding import fold
from psn_lightning.export.hub import HubMLP, export_to_hub
from psn_lightning.nn import describe

Network = Callable[[Tensor], Tensor]

ROOT = Path(__file__).parent.parent
NETWORKS: Mapping[str, tuple[str, ...]] = {
    "MLP, csr": ("conf/fashion_rigl.yaml", "--model.storage=csr", "--trainer.max_epochs=1"),
    "ResNet": ("conf/examples/resnet.yaml", "--trainer.max_epochs=1", "--trainer.limit_train_batches=150"),
    "transformer": ("conf/examples/vit.yaml", "--trainer.max_epochs=1", "--trainer.limit_train_batches=150"),
}
"""Configuration and further settings of each network."""
SEED = 42
FORMATS = ("dense", "pt2", "onnx", "safetensors", "hub")


def train(folder: Path, config: str, *settings: str) -> Path:
    """Train a network in a process of its own, and return its last checkpoint.

    Args:
        folder: Empty folder for the run.
        config: Configuration, relative to the root of the repository.
        settings: Further arguments of ``psn-train fit``.
    """
    command = [sys.executable, "-c", "from psn_lightning.cli import entry_point; entry_point()"]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--tracking.model=none"]
    subprocess.run(
        [*command, "fit", "--config", str(ROOT / config), *quiet, f"--seed_everything={SEED}", *settings],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""},
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("mlruns/*/*/checkpoints/last.ckpt")
    return path


def read(name: str, path: Path, model: nn.Module) -> Network:
    """Read an exported file as a user would, without its writer.

    Args:
        name: Format.
        path: File or folder.
        model: The network that was exported; formats with weights alone are loaded into a dense copy, of other weights.
    """
    if name == "pt2":
        program: Network = torch.export.load(path).module()
        return program
    if name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        return lambda x: torch.from_numpy(session.run(None, {given.name: x.numpy()})[0])
    if name == "hub":
        return HubMLP.from_pretrained(path)
    dense = copy.deepcopy(fold(model).module)
    for parameter in dense.parameters():
        parameter.fill_(float("nan"))
    dense.load_state_dict(load_sparse(path) if name == "safetensors" else torch.load(path, weights_only=True))
    return dense


def weigh(path: Path) -> int:
    """Size of a file, or of a folder's files, in bytes."""
    return sum(file.stat().st_size for file in ([*path.iterdir()] if path.is_dir() else [path]))


@torch.no_grad()
def measure(model: nn.Module, images: Tensor, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Export a network in each format, and return a cell of the table for each, and why some are not to be had.

    Args:
        model: The network, in evaluation mode.
        images: Test images as the network reads them.
        folder: Empty folder for the files.
    """
    parts = images.split(1000)
    logits = torch.cat([model(part) for part in parts])
    cells, reasons, dense = {}, {}, 0
    for name in FORMATS:
        path = folder / f"model.{name}"
        try:
            export_to_hub(model, path, images[:8]) if name == "hub" else export_model(model, path, name, images[:8])
        except SettingError as error:
            cells[name], reasons[name] = "none", str(error)
            continue
        network = read(name, path, model)
        found = torch.cat([network(part) for part in parts])
        size = weigh(path)
        dense = dense or size
        other = int((found.argmax(1) != logits.argmax(1)).sum())
        difference = f"{float((found - logits).abs().max()):.1e}{f' ({other} classes)' if other else ''}"
        cells[name] = f"{difference}; {size / 1000:,.0f} kB; {size / dense:.2f}"
    return cells, reasons


def main() -> None:
    """Print the table."""
    silence_libraries()
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # the seed, set again for each network
    titles, columns, footnotes = [], [], []
    for title, (config, *settings) in NETWORKS.items():
        with tempfile.TemporaryDirectory() as scratch:
            checkpoint = train(Path(scratch), config, *settings)
            cli = build(read_config_text(checkpoint, weights_only=True))
            load_weights(cli.model, cli.trainer, str(checkpoint), weights_only=True, resumes=False)
            cli.datamodule.setup("test")
            images = torch.cat([x for x, _ in cli.datamodule.test_dataloader()])
            step, absent = torch.load(checkpoint, weights_only=True)["global_step"], describe(cli.model).sparsity
            titles.append(f"{title}, {absent:.1%} absent, step {step}")
            cells, reasons = measure(cli.model.eval(), images, Path(scratch))
            columns.append(cells)
            footnotes += [f"`{name}`, {title}: {reason}." for name, reason in reasons.items()]
    machine: dict[str, Any] = describe_machine()
    print(f"Largest difference of a logit over {len(images):,} test images; size; ratio to the dense file. ", end="")
    print(f"{machine['date']}, {machine['processor']}, torch {machine['versions']['torch']}, seed {SEED}.\n")
    print(f"| format | {' | '.join(titles)} |\n|{'---|' * (len(titles) + 1)}")
    for name in FORMATS:
        print(f"| `{name}` | {' | '.join(cells[name] for cells in columns)} |")
    print("", *footnotes, sep="\n")


if __name__ == "__main__":
    main()
