"""``psn-train sync``: send to MLflow what runs have queued while it was away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError
from psn_lightning.tracking.outbox import BusyError, Outbox, find_outboxes
from psn_lightning.tracking.sender import Delivery
from psn_lightning.tracking.store import Store


def run(arguments: Sequence[str]) -> None:
    """Send every outbox of a run whose process has ended; each metric and artifact arrives once.

    Raises:
        SettingError: If a store is away, or an outbox is damaged; the other outboxes are sent nevertheless.
    """
    home = _parser().parse_args(list(arguments)).folder
    console, errors = Console(), []
    found = find_outboxes(home)
    if not found:
        console.print(f"There is nothing to send in {home}.", highlight=False)
    for path in found:
        try:
            console.print(_send(path, console), highlight=False, soft_wrap=True)
        except BusyError as busy:
            console.print(str(busy), highlight=False, soft_wrap=True)
        except FileNotFoundError:
            continue  # its run has sent it meanwhile
        except SettingError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _send(path: Path, console: Console) -> str:
    """Empty an outbox, and report what was sent."""
    outbox = Outbox(path)
    try:
        store = Store(outbox.run.uri)
        delivery = Delivery(store, outbox)
        sent = ", ".join(f"{count} {kind}" for kind, count in outbox.left().items()) or "nothing was left"
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress, store.told():
            bar = progress.add_task(path.stem, total=len(outbox))
            store.check()
            run_id = delivery.ensure_run()
            while delivery.send_next():
                progress.advance(bar)
    finally:
        outbox.close()
    kept = f"; what MLflow refused stays in {path}" if path.exists() else ""
    return f"Run {run_id} in {store.shown}: {sent}{kept}"


def _parser() -> CommandParser:
    parser = CommandParser(prog="psn-train sync", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("mlruns"), help="folder of the runs; default mlruns"
    )
    return parser
