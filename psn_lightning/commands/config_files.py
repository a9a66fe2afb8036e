"""Configuration files of a command line: where they are named, what they hold, and files that are not YAML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from psn_lightning.commands.shipped import find_config
from psn_lightning.errors import SettingError, compact


def config_files(arguments: Iterable[str]) -> Iterator[Path]:
    """Configuration files that a command line names, in order."""
    for _, value in _config_values(arguments):
        yield Path(value)


def locate_configs(arguments: Sequence[str]) -> list[str]:
    """Replace names of configurations of the package by their paths.

    Args:
        arguments: Command line after the name of the command.

    Raises:
        SettingError: If a configuration is neither a file nor a name.
    """
    located = list(arguments)
    for place, value in _config_values(arguments):
        located[place] = located[place].removesuffix(value) + str(find_config(value))
    return located


def _config_values(arguments: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Place in a command line and value of each configuration."""
    before = ""
    for place, argument in enumerate(arguments):
        flag, _, value = argument.partition("=")
        if _is_config_flag(before):
            yield place, argument
        elif _is_config_flag(flag) and value:
            yield place, value
        before = argument


def _is_config_flag(flag: str) -> bool:
    """Whether the parser takes a flag for ``--config``, which may be shortened."""
    return flag == "-c" or (len(flag) > len("--co") and "--config".startswith(flag))


def check_configs(arguments: Iterable[str]) -> None:
    """Read all configuration files of a command line.

    Raises:
        SettingError: If a file is missing, is not a YAML mapping, gives a key twice, or has a list for the model, which
            the parser would ignore.
    """
    for path in config_files(arguments):
        model = read_config(path).get("model")
        if isinstance(model, list):
            raise SettingError(f"config file {path}: model {model} is a list; it must be a mapping of settings")


def read_config(path: Path) -> dict[str, Any]:
    """Content of a configuration file.

    Raises:
        SettingError: If the file is missing, is not a YAML mapping, or gives a key twice.
    """
    if not path.is_file():
        raise SettingError(f"config file not found: {path} (examples: psn-train configs)")
    try:
        content = yaml.load(path.read_text(), _UniqueKeyLoader)
    except OSError as error:
        raise SettingError(f"config file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SettingError(f"config file {path} is not YAML: {compact(error)}") from error
    if not isinstance(content, dict) or not content:
        raise SettingError(f"config file {path} has no settings; an example: 'model: {{sparsity: 0.9}}'")
    return content


def names_in(path: Path) -> Iterator[str]:
    """Dotted names of all settings in a configuration file, and their values that are texts."""
    yield from _names(read_config(path), "")


def _names(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            name = f"{prefix}.{key}" if prefix else str(key)
            yield name
            yield from _names(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _names(value, prefix)
    elif isinstance(node, str):
        yield node


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is given twice: YAML keeps the last value and drops the first one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Make a mapping.

        Raises:
            yaml.YAMLError: If a key is given twice.
        """
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"{name} is given twice, near line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)
