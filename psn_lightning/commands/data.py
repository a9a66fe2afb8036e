"""``psn-train data``: list the data sets on this machine; download on request. Imports neither torch nor Lightning."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from psn_lightning.commands.messages import CommandParser
from psn_lightning.data.catalogue import CATALOGUE, IdxFiles, TableFiles
from psn_lightning.data.sources import Source, search_roots
from psn_lightning.errors import SettingError


def run(arguments: Sequence[str]) -> None:
    """List the data sets; with ``--download``, download those that are not found.

    Args:
        arguments: Command line after ``psn-train data``.

    Raises:
        SettingError: If a name is unknown, a file is damaged or a download fails; the table is printed first.
    """
    options = _build_parser().parse_args(arguments)
    unknown = [name for name in options.names if name not in CATALOGUE]
    if unknown:
        raise SettingError(f"data set {unknown[0]!r} is not one of {', '.join(CATALOGUE)}")
    table = Table("data set", Column("found in", overflow="fold"), "rows", "digest", title="Data sets")
    errors: list[SettingError] = []
    missing = False
    for name in options.names or CATALOGUE:
        files, status = CATALOGUE[name](options.data_dir), "damaged"
        try:
            source = files.locate()
            if source is None and options.download:
                status = "not found"
                files.download_files()
                source, status = files.locate(), "damaged"
            if source is None:
                missing = True
                table.add_row(name, "[red]not found[/red]")
            else:
                table.add_row(*_describe_files(name, files, source))
        except SettingError as error:
            errors.append(error)
            table.add_row(name, f"[red]{status}[/red]")
    console = Console()
    console.print(table)
    if missing:
        searched = ", ".join(str(root) for root in search_roots(options.data_dir))
        names = [*options.names, *(["--data_dir", str(options.data_dir)] if options.data_dir else [])]
        console.print(f"Searched {searched}. Download the missing sets with:", highlight=False)
        console.print(shlex.join(["psn-train", "data", *names, "--download"]), highlight=False, soft_wrap=True)
    if errors:
        raise errors[0]


def _describe_files(name: str, files: IdxFiles | TableFiles, source: Source) -> list[str]:
    """Read and verify the files of a data set, and return its row of the table."""
    counts = [len(labels) for _, labels in files.read(source)]
    found = files.identify(source, sum(counts))
    complete = ", complete" if found["dataset.completeness"] == "complete" else ""  # the title of a subset says so
    rows = [f"{part} {count}" for part, count in zip(("train", "test"), counts, strict=True)] if counts[1:] else counts
    return [
        f"{name}: {found['dataset.name']}{complete}",
        found["dataset.folder"],
        "\n".join(map(str, rows)),
        found["dataset.digest"][:12],
    ]


def _build_parser() -> CommandParser:
    parser = CommandParser(prog="psn-train data", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(CATALOGUE)}; default: all")
    parser.add_argument("--data_dir", help="folder to search first, and to download to")
    parser.add_argument("--download", action="store_true", help="download the sets that are not found")
    return parser
