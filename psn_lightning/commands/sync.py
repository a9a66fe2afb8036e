"""``psn-train sync``: what runs have logged while MLflow was away, brought there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError
from psn_lightning.tracking.delivery import Delivery
from psn_lightning.tracking.spool import BusyError, Spool, spools
from psn_lightning.tracking.store import Store


def run(arguments: Sequence[str]) -> None:
    """Bring everything that is left to MLflow; each metric and artifact arrives once, however often this is run.

    Raises:
        SettingError: If a store is still away, or a spool is damaged; the others are sent all the same.
    """
    folder = _parser().parse_args(list(arguments)).folder
    console, failed = Console(), []
    found = spools(folder)
    if not found:
        console.print(f"Nothing is left to send in {folder / 'spool'}.", highlight=False)
    for path in found:
        try:
            spool = Spool(path)
            try:
                told = _send(spool, console)
            finally:
                spool.close(remove=spool.empty)
        except BusyError as busy:
            told = str(busy)
        except FileNotFoundError:
            continue  # its run has sent it itself in the meantime
        except SettingError as error:
            if path.exists():
                failed.append(error)
            continue
        console.print(told, highlight=False, soft_wrap=True)
    if failed:
        raise failed[0]


def _send(spool: Spool, console: Console) -> str:
    """Empty a spool.

    Returns:
        What was sent, in words.
    """
    store = Store(spool.run.uri)
    delivery = Delivery(store, spool)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress, store.told():
        try:
            left = spool.left()
            bar = progress.add_task(spool.folder.name, total=sum(1 for _ in spool.pending()))
            store.check()
            while delivery.next():
                progress.advance(bar)
        except SettingError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # operations that nobody has put in
            raise spool.damaged(error) from error
    sent = ", ".join(f"{count} {kind}" for kind, count in left.items()) or "nothing was left"
    kept = f"; what MLflow refuses is in {spool.refused}" if spool.refused.exists() else ""
    return f"Run {delivery.run} in {store.shown}: {sent}{kept}"


def _parser() -> CommandParser:
    parser = CommandParser(prog="psn-train sync", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("mlruns"), help="folder of the runs; default mlruns"
    )
    return parser
