"""Whose model a command line trains: ours, with its flat settings, or any LightningModule by class path."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml

from psn_lightning.commands.config_files import config_files
from psn_lightning.commands.messages import suggest
from psn_lightning.errors import SettingError
from psn_lightning.task import SparseClassifier


def named_model(arguments: Sequence[str]) -> str | None:
    """The class path that a command line or its configuration files give the model; the last one counts.

    Args:
        arguments: What follows ``psn-train``; ``--model Name``, ``--model.class_path Name``, or ``model: {class_path:
            Name}`` in a file.

    Returns:
        None where there is none: the model is a :class:`SparseClassifier`.
    """
    names = [*_in_files(config_files(arguments)), *_on_the_line(arguments)]
    return names[-1] if names else None


def model_class(path: str | None) -> type[pl.LightningModule] | None:
    """The class of that path, ``SparseClassifier`` for None; None where it is a short name.

    Raises:
        SettingError: If there is no such class.
    """
    if path in (None, SparseClassifier.__name__):
        return SparseClassifier
    module, _, name = str(path).rpartition(".")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", str(path)):
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise SettingError(f"model {path} cannot be imported from {Path.cwd()}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, pl.LightningModule)):
        what = f"there is no {name} in {module}" if found is None else f"{path} is not a LightningModule"
        names = _modules_in(module)
        raise SettingError(f"model: {what}{suggest(name, names)}; it has {', '.join(names) or 'none'}")
    return found


def _modules_in(name: str) -> list[str]:
    members = vars(importlib.import_module(name)).items()
    return [key for key, value in members if isinstance(value, type) and issubclass(value, pl.LightningModule)]


def check_alone(path: str, arguments: Sequence[str]) -> None:
    """Refuse another model beside a file that has settings of ours.

    Raises:
        SettingError: With the file.
    """
    for file in config_files(arguments):
        model = yaml.safe_load(file.read_text()).get("model")
        if isinstance(model, dict) and model and "class_path" not in model and "init_args" not in model:
            raise SettingError(
                f"--config {file} has settings of SparseClassifier under model, but the model is {path}: leave the "
                "file out, or write model: {class_path: …, init_args: …} in one of your own"
            )


def _on_the_line(arguments: Iterable[str]) -> Iterator[str]:
    before = ""
    for argument in arguments:
        flag, _, value = argument.partition("=")
        if before in _FLAGS:
            yield argument
        elif flag in _FLAGS and value:
            yield value
        before = argument


_FLAGS = ("--model", "--model.class_path")


def _in_files(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        content: Any = yaml.safe_load(path.read_text())
        model = content.get("model")
        name = model.get("class_path") if isinstance(model, dict) else model
        if isinstance(name, str):
            yield name
