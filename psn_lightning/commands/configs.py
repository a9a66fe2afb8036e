"""``psn-train configs``: list the configurations that come with the package. Imports neither torch nor Lightning."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from psn_lightning.commands.messages import CommandParser
from psn_lightning.commands.shipped import shipped_folder, shipped_names

_USES = {
    "": "psn-train fit --config NAME",
    "examples": "psn-train fit --config NAME, in a checkout",
    "scale": "psn-train fit --config NAME",
    "sweeps": "psn-train sweep --config NAME",
    "lottery": "overlay: psn-train lottery --name … --config mnist_dense --config NAME",
    "reproduce": "psn-train reproduce with the last part of the name",
    "reproduce/base": "overlays of reproductions",
}
_OVERLAY = "overlay: psn-train fit --config fashion_rigl --config NAME"


def run(arguments: Sequence[str]) -> None:
    """Print a table for each folder of configurations.

    Args:
        arguments: Command line after ``psn-train configs``.

    Raises:
        SettingError: If there are any.
    """
    parser = CommandParser(prog="psn-train configs", description=__doc__)
    parser.parse_args(arguments)
    console = Console()
    folders: dict[str, list[str]] = {}
    for name in shipped_names():
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    for folder, names in sorted(folders.items()):
        title = _USES.get(folder, _OVERLAY)
        table = Table(Column("name", no_wrap=True), "what it is", title=title, title_justify="left", box=None)
        for name in names:
            table.add_row(name, describe(shipped_folder() / f"{name}.yaml"))
        console.print(table, "", highlight=False)
    console.print("psn-train init DIR copies them. A NAME is also a file of that path in DIR/conf.", highlight=False)


def describe(path: Path) -> str:
    """First sentence of the comment that a file begins with.

    Args:
        path: Configuration file.
    """
    text = ""
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        text += line.removeprefix("#")
    sentence = re.split(r"(?<=[.?]) (?=[A-Z])|  ", text.strip(), maxsplit=1)[0]
    return " ".join(sentence.split()).rstrip(".:")
