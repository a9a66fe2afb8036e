"""What the command line's parsers complain of, in words that name the setting, its value and the remedy."""

from __future__ import annotations

import argparse
import difflib
import importlib
import inspect
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from psn_lightning.errors import SettingError, compact

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list", "str": "a text"}
_GROUPS = ("model", "trainer", "tracking", "predictions", "checkpoints", "guards")  # of settings
_DEEPEST = 50
_NOT_A_SETTING = (
    r"unrecognized arguments: --?([\w.+-]+)",
    r"does not accept option '([^']+)'",
    r"^Option '([^']+)' is not",
)


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are told as all others are."""

    def error(self, message: str) -> NoReturn:
        """Name what is wrong.

        Raises:
            SettingError: Always.
        """
        known = [option for action in self._actions for option in action.option_strings]
        wrong = re.search(r"unrecognized arguments: (\S+)", message)
        if wrong:
            name = wrong[1].split("=")[0]
            message = f"{name} is none of its arguments{nearest(name, known)}"
        raise SettingError(f"{message}; see {self.prog} --help")


def explained(error: argparse.ArgumentError, parser: argparse.ArgumentParser) -> SettingError:
    """What jsonargparse complains of, in one or two lines.

    Args:
        error: What it raised.
        parser: The parser, which knows all settings.
    """
    known = [action.dest for action in parser._actions]
    complaint = " ".join(str(error).split())
    return SettingError.inside(error) or _of_subtypes(str(error)) or SettingError(_in_words(complaint, known))


def _of_subtypes(complaint: str) -> SettingError | None:
    """What the one subtype that nearly fits says is wrong; None where all of them expect something else."""
    key = re.search(r'Parser key "([^"]+)"', complaint)
    _, found, errors = complaint.partition("Errors:")
    lines = [line.strip(" -") for line in errors.partition("Given value")[0].splitlines()]
    wrong = [line for line in lines if line and not line.startswith(("Expected a", "Not a valid", "Does not validate"))]
    if key is None or not found or not any(w.startswith(("Multiple subclasses", "the following arg")) for w in wrong):
        return None
    return SettingError(f"{key[1]}: {' '.join(wrong)}")


def _in_words(complaint: str, known: Collection[str]) -> str:
    for pattern in _NOT_A_SETTING:
        wrong = re.search(pattern, complaint)
        if wrong:
            return f"{wrong[1]} is no setting{nearest(wrong[1], known)}"
    key = re.search(r'Parser key "([^"]+)"', complaint)
    if key is None:
        return complaint
    value = re.findall(r"(?:Got value|Given value): (.*?)(?= Given value| - |$)", complaint)
    return _of_class(key[1], complaint) or _of_value(key[1], value[-1] if value else "", complaint) or complaint[:300]


def nearest(name: str, known: Iterable[str]) -> str:
    """``: did you mean model.sparsity?``; nothing where none is near."""
    near = difflib.get_close_matches(name, list(known), 1, cutoff=0.6)
    return f": did you mean {near[0]}?" if near else ""


def _of_class(key: str, complaint: str) -> str | None:
    """A class that there is not, or an argument that it does not have."""
    option = re.search(r"Problem with given class_path '([^']+)': Option '([^']+)' is not accepted", complaint)
    if option:
        found = _imported(option[1])
        arguments = [] if found is None else [name for name in inspect.signature(found).parameters if name != "self"]
        class_ = option[1].rsplit(".", 1)[-1]
        has = f"; it has {', '.join(arguments)}" if arguments else ""
        return f"{key}: {class_} has no {option[2]!r}{nearest(option[2], arguments)}{has}"
    path = re.search(r"Expected a dot import path string: (\S+)", complaint)
    if path:
        classes = {class_.__name__: class_ for base in _bases(complaint) for class_ in _subclasses(base)}
        own = sorted(name for name, class_ in classes.items() if class_.__module__.startswith("psn_lightning"))
        ours = f" (of ours: {', '.join(own)})" if 0 < len(own) < 20 else ""
        return f"{key}: there is no class {path[1]!r}{nearest(path[1], own or sorted(classes))}{ours}"
    return None


def _of_value(key: str, value: str, complaint: str) -> str | None:
    """A value of the wrong kind, or none of the choices."""
    choices = [text.strip("'\" ") for group in re.findall(r"Literal\[(.*?)\]", complaint) for text in group.split(",")]
    named = re.findall(r"<class '(\w+)'>", complaint.split("Given value")[0])
    kinds = [_KINDS[kind] for kind in named if kind in _KINDS]
    if not choices and not kinds:
        return None
    wanted = f"one of {', '.join(dict.fromkeys(choices))}" if choices else " or ".join(dict.fromkeys(kinds))
    class_ = re.match(r"Namespace\(class_path='(?:\w+\.)*(\w+)'", value)
    value = class_[1] if class_ else value[:60]
    return f"{key} {value!r} must be {wanted}{nearest(value, choices)}"


def _bases(complaint: str) -> Iterator[type]:
    for name in dict.fromkeys(re.findall(r"\w+(?:\.\w+)+", complaint)):
        found = _imported(name)
        if isinstance(found, type):
            yield found


def _imported(path: str) -> Any | None:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None) if module else None
    except ImportError:
        return None


def _subclasses(base: type) -> Iterator[type]:
    class_: type
    for class_ in base.__subclasses__():
        if not class_.__name__.startswith("_") and not inspect.isabstract(class_):
            yield class_
        yield from _subclasses(class_)


def check_configs(arguments: Iterable[str]) -> None:
    """Refuse configuration files that the parser would not name.

    Args:
        arguments: Of a command line.

    Raises:
        SettingError: If one is not there, or no YAML mapping.
    """
    for path in config_files(arguments):
        _check_config(path)


def config_files(arguments: Iterable[str]) -> Iterator[Path]:
    """The configuration files that a command line names, in its order."""
    before = ""
    for argument in arguments:
        flag, _, value = argument.partition("=")
        if _means_config(before):
            yield Path(argument)
        elif _means_config(flag) and value:
            yield Path(value)
        before = argument


def _means_config(flag: str) -> bool:
    """Whether the parser takes it for ``--config``, which may be shortened."""
    return flag == "-c" or (len(flag) > len("--co") and "--config".startswith(flag))


def _check_config(path: Path) -> None:
    if not path.is_file():
        raise SettingError(f"--config {path} is no file: see conf/ for those that there are")
    try:
        content = yaml.load(path.read_text(), _Loader)
        _check_depth(content)
    except OSError as error:
        raise SettingError(f"--config {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"--config {path} is no YAML: {compact(error)}") from error
    except RecursionError as error:
        raise SettingError(f"--config {path} is nested more than {_DEEPEST} deep: settings are not") from error
    if not isinstance(content, dict) or not content:
        raise SettingError(f"--config {path} has no settings: 'model: {{sparsity: 0.9}}' would be one")
    for group in _GROUPS:
        names_class = group == "model" and isinstance(content.get(group), str)
        if group in content and not isinstance(content[group], dict) and not names_class:
            raise SettingError(
                f"--config {path}: {group} {str(content[group])[:60]} must be settings, one below another"
            )


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice: the first of them would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Make a mapping, or name the key."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"{name} is given twice, near line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _check_depth(content: Any, above: tuple[int, ...] = (), seen: set[int] | None = None) -> None:
    """Refuse what refers to itself, or might as well.

    Raises:
        RecursionError: If it is nested too deep.
    """
    seen = set() if seen is None else seen
    if id(content) in above or len(above) > _DEEPEST:
        raise RecursionError
    if isinstance(content, dict | list) and id(content) not in seen:
        seen.add(id(content))
        for part in content.values() if isinstance(content, dict) else content:
            _check_depth(part, (*above, id(content)), seen)
