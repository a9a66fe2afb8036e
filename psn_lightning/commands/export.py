"""``psn-train export``: write the network of a checkpoint to a file, or a folder, for others."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from psn_lightning.checkpoints.origin import read_config_text, read_origin
from psn_lightning.commands.example_inputs import find_example_inputs
from psn_lightning.commands.messages import CommandParser
from psn_lightning.commands.newest_checkpoint import newest_origin
from psn_lightning.commands.starting_point import NEWEST, load_weights
from psn_lightning.commands.trained_run import describe_training
from psn_lightning.commands.training import PSNCLI, silence_libraries
from psn_lightning.errors import SettingError
from psn_lightning.export import FORMATS, export_model
from psn_lightning.tracking import MLflowLogger

HUB = "hub"
"""Format that is a folder."""

_TRAINER = {"accelerator": "cpu", "devices": 1, "strategy": "auto", "num_nodes": 1, "precision": None, "logger": False}


def run(arguments: Sequence[str]) -> None:
    """Export a checkpoint.

    Args:
        arguments: Command line after ``psn-train export``.

    Raises:
        SettingError: If the checkpoint cannot be read, the model cannot be exported, or the file computes something
            else.
        OSError: If the file cannot be written.
    """
    options = _make_parser().parse_args(arguments)
    is_folder = options.format == HUB
    path = options.out or Path("model" if is_folder else f"model{FORMATS[options.format].suffix}")
    _check_place(path, is_folder)
    silence_libraries()
    weights_only = options.weights_only == "true"
    checkpoint = _find_checkpoint(options.checkpoint, weights_only)
    cli = build(read_config_text(checkpoint, weights_only))
    load_weights(cli.model, cli.trainer, str(checkpoint), weights_only, resumes=False)
    inputs = find_example_inputs(cli.model, cli.datamodule)
    if is_folder:
        from psn_lightning.export.hub import export_to_hub

        exported = export_to_hub(cli.model, path, inputs, describe_training(cli, checkpoint, weights_only))
    else:
        exported = export_model(cli.model, path, options.format, inputs)
    rows = "any number of rows" if exported.any_rows else f"{max(2, len(inputs[0]))} rows at a time"
    Console(highlight=False, soft_wrap=True).print(
        f"{exported.path}: {exported.size / 1e6:.2f} MB, {rows}; largest difference from the checkpoint's outputs "
        f"{exported.difference:.1e}"
    )


def build(text: str) -> PSNCLI:
    """Make model, data module and Trainer of a configuration, for the CPU and without a logger.

    Args:
        text: Complete configuration, as YAML.

    Raises:
        SettingError: If the configuration does not suit this installation.
    """
    config: dict[str, Any] = yaml.safe_load(text)
    config["trainer"] |= _TRAINER
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        return PSNCLI(["--config", str(path)], run=False)


def _check_place(path: Path, is_folder: bool) -> None:
    """Refuse a path that no file, or no new folder, can have, before anything is computed."""
    if is_folder:
        if find_spec("huggingface_hub") is None:
            raise SettingError("format hub needs huggingface_hub: pip install 'psn_lightning[hub]'")
        if path.exists():
            raise SettingError(f"{path} exists: remove it, or give another folder, such as --out {path}-2")
    elif path.is_dir():
        raise SettingError(f"{path} is a folder: give the name of a file, such as --out {path / 'model'}")
    nearest = next(folder for folder in path.parents if folder.exists())
    if not nearest.is_dir():
        raise SettingError(f"{path} cannot be written: {nearest} is a file, not a folder")


def _find_checkpoint(given: str, weights_only: bool) -> Path:
    """Find the file of a checkpoint, given by path or word.

    Raises:
        SettingError: If there is none, or ``psn-train`` did not write it.
    """
    if given in NEWEST:
        origin = newest_origin(MLflowLogger(), given, weights_only)
        if origin.path is None:
            raise SettingError(f"run {origin.run_id} has no checkpoint yet: export needs a trained network")
        return origin.path
    path = Path(given)
    if not path.is_file():
        raise SettingError(f"checkpoint not found: {given}; the words last and best mean those of the newest run")
    if read_origin(path, weights_only) is None:
        raise SettingError(
            f"checkpoint {given} has no configuration, psn-train did not write it: in Python, load it into its model "
            "and call psn_lightning.export_model"
        )
    return path


def _make_parser() -> CommandParser:
    parser = CommandParser(prog="psn-train export", description=__doc__)
    parser.add_argument("checkpoint", metavar="CKPT", help="checkpoint, or last or best: that of the newest run")
    parser.add_argument(
        "--format",
        choices=[*FORMATS, HUB],
        default="pt2",
        help="pt2: a program of torch.export; onnx; safetensors: sparse weights; dense: a state dict; hub: a folder "
        "for the Hugging Face Hub, with a model card; default: pt2",
    )
    parser.add_argument("--out", type=Path, metavar="PATH", help="default: model, with the suffix of the format")
    parser.add_argument(
        "--weights_only",
        choices=["true", "false"],
        default="true",
        help="false loads a checkpoint that can run code, if you trust it; default: true",
    )
    return parser
