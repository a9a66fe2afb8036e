"""Writes ``docs/generated/``, the reference of the site, from the code: commands, public names, configurations."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from unittest import mock

from configuration_links import ROOT, label_of
from public_names import public_names


def write(folder: Path) -> None:
    """Write all pages, those that have not changed excepted, so that only changed ones are read again.

    Args:
        folder: Where to; files of earlier builds that are no pages any longer are removed.
    """
    pages = dict([*_commands(), *_rooms(), *_configurations(), *_examples()])
    for path in [*folder.rglob("*.*")]:
        if path.is_file() and str(path.relative_to(folder)) not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def _commands() -> Iterator[tuple[str, str]]:
    """An overview of the commands of ``psn-train``, and a page for each."""
    from psn_lightning.cli import COMMANDS, HELP, _find_command
    from psn_lightning.commands.messages import CommandParser

    overview = f".. code-block:: text\n\n{textwrap.indent(HELP.strip(), '   ')}"
    yield "commands.rst", _page("Command line", overview, _table_of_contents(f"commands/{name}" for name in COMMANDS))
    for name in COMMANDS:
        parser = command_parser(name)
        groups = [text for group in parser._action_groups if (text := _describe_group(parser, group))]
        is_ours = isinstance(parser, CommandParser)  # else Lightning's, with a description of its own
        described = parser.description if is_ours else inspect.getdoc(_find_command(name))
        about = [_escape(paragraph) for paragraph in (described or "").split("\n\n")]
        yield f"commands/{name}.rst", _page(f"psn-train {name}", *about, f".. program:: psn-train {name}", *groups)


class _Found(BaseException):
    """Carries a parser out of the command that has made it."""


def command_parser(name: str) -> argparse.ArgumentParser:
    """Parser of a command, the one that ``--help`` prints.

    Args:
        name: Name of the command.

    Raises:
        LookupError: If ``--help`` of the command does not print a parser's help.
    """
    from psn_lightning.cli import _find_command

    def stop(parser: argparse.ArgumentParser, file: object = None) -> None:
        raise _Found(parser)

    with mock.patch.object(argparse.ArgumentParser, "print_help", stop):
        try:
            _find_command(name)(["--help"])
        except _Found as found:
            parser: argparse.ArgumentParser = found.args[0]
            return parser
    raise LookupError(f"psn-train {name} --help prints no help")


def _describe_group(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup) -> str:
    """A section with the arguments of a group; empty for a group without any."""
    formatter = parser._get_formatter()
    entries = []
    for action in group._group_actions:
        options = [o for o in action.option_strings if o.startswith("--") and not o.endswith(("+", ".help"))]
        if action.help == argparse.SUPPRESS or (action.option_strings and not options):
            continue
        name = options[0] if options else _value_of(formatter, action)
        value = _value_of(formatter, action) if action.option_strings and action.nargs != 0 else ""
        text = " ".join(formatter._expand_help(action).split()) if action.help else ""
        entries.append(f".. option:: {f'{name} {value}'.strip()}\n\n   {_escape(text)}")
    if not entries:
        return ""
    title = (group.title or "").splitlines()[0].rstrip(".:")
    about = _escape(" ".join((group.description or "").split()))
    return "\n\n".join(filter(None, [_heading(title[:1].upper() + title[1:], "-"), about, *entries]))


def _value_of(formatter: argparse.HelpFormatter, action: argparse.Action) -> str:
    """What stands for an argument's value in the usage."""
    value = formatter._format_args(action, formatter._get_default_metavar_for_optional(action))
    return "".join(filter(str.isprintable, value))


def _rooms() -> Iterator[tuple[str, str]]:
    """An overview of the public names, and a page for each room."""
    rooms = public_names()
    about = (
        "What ``psn_lightning`` exports at its top, and what its rooms export for extensions. A name is shown as it is"
        " imported: ``from psn_lightning import RigL``. Rooms stand in the order of their floors, the lowest first:"
        " none imports from a later one."
    )
    yield "api.rst", _page("Python", about, _table_of_contents((f"api/{room}" for room in rooms), hidden=False))
    for room, exported in rooms.items():
        module = importlib.import_module(f"psn_lightning.{room}")
        yield f"api/{room}.rst", _room_page(module, exported)


def _room_page(module: ModuleType, exported: Mapping[str, object]) -> str:
    """Page of a room: a table of its names, then each with its docstring."""
    about = inspect.cleandoc(module.__doc__ or "")
    table = ".. autosummary::\n   :nosignatures:\n\n" + "\n".join(f"   ~{name}" for name in exported)
    return _page(
        module.__name__, about, table, *(f".. {_directive(value)}:: {name}" for name, value in exported.items())
    )


def _directive(value: object) -> str:
    return "autoclass" if inspect.isclass(value) else "autofunction" if inspect.isroutine(value) else "autodata"


def _configurations() -> Iterator[tuple[str, str]]:
    """An overview of the configurations, and a page for each folder of ``conf/``."""
    folders: dict[str, list[Path]] = {}
    for path in sorted((ROOT / "conf").rglob("*.yaml")):
        folders.setdefault(str(path.parent.relative_to(ROOT / "conf")), []).append(path)
    pages = {folder: f"configurations/{'main' if folder == '.' else folder.replace('/', '-')}" for folder in folders}
    about = (
        "The configurations that come with the package, with the meaning and the default of every key. ``--config"
        " rules/set`` takes one by its name, later ones win, and ``psn-train init`` copies all of them."
    )
    yield "configurations.rst", _page("Configurations", about, _table_of_contents(pages.values(), hidden=False))
    for folder, paths in folders.items():
        title = "conf" if folder == "." else f"conf/{folder}"
        yield f"{pages[folder]}.rst", _page(title, *(_source(path, "yaml", 2) for path in paths))


def _examples() -> Iterator[tuple[str, str]]:
    """The example models, in one page."""
    about = "Models without any code for sparsity, and their data modules; ``conf/examples/`` trains them."
    paths = [path for path in sorted((ROOT / "examples").glob("*.py")) if path.stem != "__init__"]
    yield "examples.rst", _page("Examples", about, *(_source(path, "python", 1) for path in paths))


def _source(path: Path, language: str, depth: int) -> str:
    """A section with a file."""
    name = str(path.relative_to(ROOT))
    up = "../" * (depth + 1)
    block = f".. literalinclude:: {up}{name}\n   :language: {language}"
    return f".. _{label_of(name)}:\n\n{_heading(name, '-')}\n\n{block}"


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([_heading(title, "="), *filter(None, parts)]) + "\n"


def _heading(title: str, line: str) -> str:
    return f"{_escape(title)}\n{line * (len(_escape(title)) + 2)}"


def _table_of_contents(pages: Iterable[str], hidden: bool = True) -> str:
    option = "   :hidden:\n" if hidden else "   :titlesonly:\n"
    return f".. toctree::\n{option}\n" + "\n".join(f"   {page}" for page in pages)


def _escape(text: str) -> str:
    """Plain text as reStructuredText; what stands between double backticks is code there, too."""
    return re.sub(r"(``[^`]+``)|([\\`*_|<>])", lambda found: found[1] or f"\\{found[2]}", text)
