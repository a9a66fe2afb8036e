"""Errors of the command line's parsers: one short message with the nearest name beside a misspelt one."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Collection, Sequence
from typing import NoReturn

import psn_lightning
from psn_lightning.commands.class_arguments import explain, find_class, public_classes
from psn_lightning.commands.config_files import config_files, names_in
from psn_lightning.errors import SettingError, compact, suggest


class CommandParser(argparse.ArgumentParser):
    """An argparse parser whose errors are :class:`SettingError`, with the nearest option."""

    def parse_args(  # type: ignore[override]  # argparse's overloads allow other namespaces, which nobody passes
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """Parse arguments.

        Raises:
            SettingError: If an argument is unknown or malformed.
        """
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].split("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            self.error(f"{name} is not an argument{suggest(name, known)}")
        return options

    def error(self, message: str) -> NoReturn:
        """Raise the message as a :class:`SettingError`."""
        raise SettingError(f"{message}; see {self.prog} --help")


def parser_error(error: argparse.ArgumentError, parser: argparse.ArgumentParser, given: Sequence[str]) -> SettingError:
    """A parser's error as a :class:`SettingError`, with the nearest known name for each word that it quotes.

    Args:
        error: Error of jsonargparse.
        parser: Parser that raised the error; knows all settings.
        given: Arguments of the command line.
    """
    cause = SettingError.inside(error)
    if cause is not None:
        return cause
    explained = explain(str(error), given)
    if explained is not None:
        return SettingError(explained)
    message = compact(error)
    words = _words(given)
    settings = {action.dest for action in parser._actions}
    known = {*settings, *(part for name in settings for part in name.split(".")), *dir(psn_lightning)}
    choices = set(re.findall(r"'(\w+)'", message))
    for word in words:
        if word not in known and re.search(rf"(?<![\w.]){re.escape(word)}(?!\w)", message):
            alternatives = settings if "." in word else _alternatives(word, words) | choices
            hint = "" if word in alternatives else suggest(word, alternatives)
            if hint:
                return SettingError(f"{message} ({word}{hint})")
    return SettingError(message)


def _words(arguments: Sequence[str]) -> list[str]:
    """Names and values that a command line and its configuration files give, longest first."""
    line = (part for argument in arguments for part in argument.removeprefix("--").split("=", 1))
    files = (name for path in config_files(arguments) for name in names_in(path))
    words = {word for name in (*line, *files) for word in (name, name.rpartition(".")[2])}
    return sorted(words - {"", "class_path", "init_args"}, key=len, reverse=True)


def _alternatives(word: str, words: Collection[str]) -> set[str]:
    """Names that a word could be meant for: public classes, or parameters of the classes that are given."""
    classes = public_classes()
    if word[0].isupper():
        return set(classes)
    given = {find_class(other, classes) for other in words} - {None}
    return {key for class_ in given if class_ for key in inspect.signature(class_).parameters}
