"""Model of a command line: SparseClassifier with its flat settings, or any LightningModule by class path."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml

from psn_lightning.commands.config_files import config_files
from psn_lightning.errors import SettingError, suggest
from psn_lightning.task import SparseClassifier


@dataclass(frozen=True)
class ChosenModel:
    """What a command line says of its model."""

    is_flat: bool
    """Whether no model is named: the settings of :class:`SparseClassifier` stand directly under ``model``."""
    is_ours: bool
    """Whether the model is a :class:`SparseClassifier`, or a subclass of it by class path."""

    @property
    def key(self) -> str:
        """Key of the arguments of the model."""
        return "model" if self.is_flat else "model.init_args"

    @classmethod
    def find(cls, arguments: Sequence[str]) -> ChosenModel:
        """Find the model that a command line and its configuration files name.

        Args:
            arguments: Command line after ``psn-train``.

        Raises:
            SettingError: If the class cannot be imported or is not a LightningModule, or a file has settings of
                SparseClassifier for it.
        """
        path = named_model(arguments)
        found = model_class(path)
        if path is not None:
            check_alone(path, arguments)
        return cls(path is None, found is not None and issubclass(found, SparseClassifier))


def named_model(arguments: Sequence[str]) -> str | None:
    """Find the name of the model in a command line and its configuration files; the last one counts.

    The name is given by ``--model Name``, ``--model.class_path Name``, or ``model: {class_path: Name}`` in a file.

    Args:
        arguments: Command line after ``psn-train``.

    Returns:
        Class path or short name of the model; None if there is none, for :class:`SparseClassifier`.
    """
    names = [*_find_in_files(config_files(arguments)), *_find_in_arguments(arguments)]
    return names[-1] if names else None


def model_class(path: str | None) -> type[pl.LightningModule] | None:
    """Import the class of a model.

    Args:
        path: Class path, short name, or None for :class:`SparseClassifier`.

    Returns:
        Class of the model; None for a short name, which the parser resolves.

    Raises:
        SettingError: If the class cannot be imported or is not a LightningModule.
    """
    if path in (None, SparseClassifier.__name__):
        return SparseClassifier
    module, _, name = str(path).rpartition(".")
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", str(path)):
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise SettingError(f"model {path} cannot be imported in {Path.cwd()}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, pl.LightningModule)):
        names = _list_models(module)
        cause = f"is not in {module}" if found is None else "is not a LightningModule"
        listed = f"LightningModules of {module}: {', '.join(names) or 'none'}"
        raise SettingError(f"model {path} {cause}{suggest(name, names)}; {listed}")
    return found


def _list_models(module: str) -> list[str]:
    """Names of the LightningModules of a Python module."""
    members = vars(importlib.import_module(module)).items()
    return [key for key, value in members if isinstance(value, type) and issubclass(value, pl.LightningModule)]


def check_alone(path: str, arguments: Sequence[str]) -> None:
    """Check that no configuration file has settings of SparseClassifier for another model.

    Args:
        path: Class path of the model.
        arguments: Command line after ``psn-train``.

    Raises:
        SettingError: If a file has such settings.
    """
    for file in config_files(arguments):
        model = yaml.safe_load(file.read_text()).get("model")
        if isinstance(model, dict) and model and "class_path" not in model and "init_args" not in model:
            raise SettingError(
                f"--config {file} has settings of SparseClassifier under model, but the model is {path}: leave the "
                "file out, or give model: {class_path: …, init_args: …} in another file"
            )


def _find_in_arguments(arguments: Iterable[str]) -> Iterator[str]:
    """Names of the model in a command line, in order."""
    before = ""
    for argument in arguments:
        flag, _, value = argument.partition("=")
        if before in _FLAGS:
            yield argument
        elif flag in _FLAGS and value:
            yield value
        before = argument


_FLAGS = ("--model", "--model.class_path")


def _find_in_files(paths: Iterable[Path]) -> Iterator[str]:
    """Names of the model in configuration files, in order."""
    for path in paths:
        content: Any = yaml.safe_load(path.read_text())
        model = content.get("model")
        name = model.get("class_path") if isinstance(model, dict) else model
        if isinstance(name, str):
            yield name
