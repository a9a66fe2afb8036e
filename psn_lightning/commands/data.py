"""``psn-train data``: what is on this machine, and downloads on request."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from psn_lightning.commands.messages import CommandParser
from psn_lightning.data import DATASETS, ClassificationData
from psn_lightning.data.sources import search_roots
from psn_lightning.errors import SettingError


def run(arguments: Sequence[str]) -> None:
    """List the data sets; with ``--download`` fetch what is missing.

    Raises:
        SettingError: If a name is unknown, a file damaged, or a download fails.
    """
    options = _parser().parse_args(arguments)
    unknown = [name for name in options.names if name not in DATASETS]
    if unknown:
        raise SettingError(f"data set {unknown[0]!r} is not one of {', '.join(DATASETS)}")
    table = Table("data set", Column("found in", overflow="fold"), "rows", "digest", title="Data sets")
    missing = False
    trouble: SettingError | None = None
    for name in options.names or DATASETS:
        data = DATASETS[name](data_dir=options.data_dir, download=options.download)
        wrong, error = _made_ready(data, options.download)
        if wrong:
            missing = missing or error is None
            trouble = trouble or error
            table.add_row(name, f"[red]{wrong}[/red]", "", "")
            continue
        found = data.description()
        complete = ", complete" if found["dataset.completeness"] == "complete" else ""  # a subset's name says so
        table.add_row(
            f"{name}: {found['dataset.name']}{complete}",
            found["dataset.folder"],
            found["dataset.rows"].replace(", ", "\n"),
            found["dataset.digest"][:12],
        )
    console = Console()
    console.print(table)
    if missing:
        looked_in = ", ".join(str(root) for root in search_roots(options.data_dir))
        console.print(f"Looked in {looked_in}. Fetch what is missing with: psn-train data --download", highlight=False)
    if trouble is not None:
        raise trouble


def _made_ready(data: ClassificationData, download: bool) -> tuple[str, SettingError | None]:
    """Load a data set; what is wrong with it, if anything, in a word and as an error."""
    wrong = "damaged"
    try:
        if data.locate() is None:
            wrong = "not found"
            if not download:
                return wrong, None
            data.prepare_data()
            wrong = "damaged"
        data.setup()
    except SettingError as error:
        return wrong, error
    return "", None


def _parser() -> CommandParser:
    parser = CommandParser(prog="psn-train data", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(DATASETS)}; default: all")
    parser.add_argument("--data_dir", help="folder to look in first, and to download to")
    parser.add_argument("--download", action="store_true", help="fetch what is not found")
    return parser
