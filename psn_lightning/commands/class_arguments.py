"""Arguments of named classes in a command line and its configuration files, and what is wrong with them.

Where a setting may have several types, jsonargparse tries one after the other, and its error tells of every attempt. A
parser of the class alone says in two lines which argument is wrong.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from psn_lightning.commands.config_files import config_files, read_config
from psn_lightning.errors import compact, suggest

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


class ClassArgument(NamedTuple):
    """Argument of a class, as it is given."""

    place: str
    """Setting that the class is given for, such as ``trainer.callbacks``."""
    class_: type
    """The class."""
    name: str
    """Name of the argument."""
    value: Any
    """Value, from a command line as text."""


def public_classes() -> dict[str, type]:
    """Classes that can be given by their short name."""
    import torch  # slow to import: only where an error is explained
    from lightning.pytorch import callbacks

    import psn_lightning
    from psn_lightning import data

    rooms = (torch.optim, torch.optim.lr_scheduler, callbacks, data, psn_lightning)
    found = {name: getattr(room, name) for room in rooms for name in dir(room) if name[0].isupper()}
    return {name: value for name, value in found.items() if inspect.isclass(value)}


def find_class(name: str, classes: Mapping[str, type]) -> type | None:
    """Find a class by its short name, or by the path of a module that is imported; None if there is none.

    Args:
        name: Name or class path.
        classes: Classes by short name.
    """
    module, _, own = name.rpartition(".")
    found = getattr(sys.modules.get(module), own, None) if module else classes.get(name)
    return found if inspect.isclass(found) else None


def explain(message: str, given: Sequence[str]) -> str | None:
    """Explain which argument of a class a parser has refused.

    Args:
        message: Error of the parser.
        given: Arguments of the command line.

    Returns:
        The culprit, what is expected, and the nearest name; None if every argument that the error mentions is fine.
    """
    for argument in _list_arguments(given):
        if argument.name in message and str(argument.value) in message and (found := _check(argument)):
            return f"{argument.place}: {found}"
    return None


def _check(argument: ClassArgument) -> str | None:
    """What is wrong with an argument; None if nothing is."""
    name, owner = argument.name, argument.class_.__name__
    known = {action.dest for action in _make_parser(argument.class_)._actions} - {"help"}
    if name not in known:
        others = ", ".join(sorted(key for key in known if "." not in key)) or "none"
        return f"{name} is not an argument of {owner}{suggest(name, known) or f'; its arguments: {others}'}"
    try:
        _make_parser(argument.class_, known - {name}).parse_object({name: argument.value})
    except argparse.ArgumentError as error:
        text, value = compact(error), str(argument.value)
        hint = suggest(value, re.findall(r"'(\w+)'", text))
        return f"{owner}: {text}{f' ({value}{hint})' if hint else ''}"
    return None


def _make_parser(class_: type, left_out: Iterable[str] = ()) -> ArgumentParser:
    from jsonargparse import ArgumentParser  # slow to import: only where an error is explained

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(class_, fail_untyped=False, skip=set(left_out))
    return parser


def _list_arguments(given: Sequence[str]) -> Iterator[ClassArgument]:
    """Arguments of classes: those of the command line, then those of the files, the innermost first."""
    classes, by_place, in_files = public_classes(), dict[str, type](), list[ClassArgument]()
    for path in config_files(given):
        in_files += _walk(read_config(path), "", classes, by_place)
    flags = list(_list_flags(given))
    for flag, value in flags:
        _note(flag.removesuffix("+").removesuffix(".class_path"), value, classes, by_place)
    for flag, value in flags:
        place, _, name = flag.rpartition(".")
        place = place.removesuffix(".init_args")
        if place in by_place and name != "class_path":
            yield ClassArgument(place, by_place[place], name, value)
    yield from in_files


def _list_flags(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Settings of a command line with their values."""
    for place, argument in enumerate(given):
        flag, equals, value = argument.partition("=")
        if flag.startswith("--"):
            yield flag.removeprefix("--"), value if equals else next(iter(given[place + 1 :]), "")


def _walk(node: Any, place: str, classes: Mapping[str, type], by_place: dict[str, type]) -> Iterator[ClassArgument]:
    """Arguments of the classes in a part of a configuration file; notes the classes by place."""
    if isinstance(node, list):
        for value in node:
            yield from _walk(value, place, classes, by_place)
    elif isinstance(node, str):
        _note(place, node, classes, by_place)
    elif isinstance(node, dict):
        own = str(node.get("class_path", ""))
        arguments = node.get("init_args") if own else node
        if own:
            _note(place, own, classes, by_place)
        for key, value in arguments.items() if isinstance(arguments, dict) else ():
            yield from _walk(value, f"{place}.{key}" if place else str(key), classes, by_place)
            if own and (class_ := find_class(own, classes)):
                yield ClassArgument(place, class_, str(key), value)


def _note(place: str, name: str, classes: Mapping[str, type], by_place: dict[str, type]) -> None:
    class_ = find_class(name, classes)
    if class_ is not None:
        by_place[place] = class_  # of several the last one, to which the parser gives further arguments
