"""``psn-train reproduce --check``: repeat the runs of one claim, and compare them and its verdict with the record."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from psn_lightning.errors import SettingError
from psn_lightning.paper.cost import estimate_run_seconds
from psn_lightning.paper.plan import load_plan
from psn_lightning.paper.record import RECORD, read
from psn_lightning.paper.recorded_run import RecordedRun, key_of
from psn_lightning.paper.report.judging import all_claims
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.reproduction import Reproduction, cells_of, load, plan_for, select_tickets
from psn_lightning.paper.studies import Recorder, run_study
from psn_lightning.sweeps.storages import study_file
from psn_lightning.tracking.provenance import git_commit


@dataclass(frozen=True)
class _Part:
    """Runs of a claim in one experiment on one data set."""

    experiment: str
    reproduction: Reproduction
    data: str
    tickets: list[int]
    """Tickets of the runs that the check repeats."""
    keys: list[str]
    """Keys of these runs."""


def check_claim(name: str, data: Collection[str] | None, seeds: Collection[int] | None, workers: int) -> None:
    """Repeat the runs of a claim into a record of their own, and compare them with ``results/runs.jsonl``.

    A check that was stopped goes on; the same command after its end only compares.

    Args:
        name: Name of the claim in the analysis plan.
        data: Short names of the data sets; None: all of the claim.
        seeds: Seeds; None: all of its experiments.
        workers: Number of processes.

    Raises:
        SettingError: If the claim, a data set or a seed is not known, or runs failed for good.
        SIGTERMException: If the command was stopped.
    """
    path, known, console = RECORD.with_name(f"check-{name}.jsonl"), read(), Console(highlight=False)
    parts = list(_list_parts(name, data, seeds))
    done = _read_own(path)
    left = [(part, {key for key in part.keys if key not in done}) for part in parts]
    left = [(part, keys) for part, keys in left if keys]
    seconds = [
        len(keys) * estimate_run_seconds(part.experiment, part.reproduction, part.data, known) for part, keys in left
    ]
    console.print(
        f"{name}: {sum(len(keys) for _, keys in left)} runs, about {sum(seconds) / 3600:.1f} hours with one worker, "
        f"about half with two on two cores; recorded in {path}"
    )
    for part, keys in left:
        _repeat(part, keys, path, name, workers)
    repeated = _read_own(path)
    _print_runs(parts, known, repeated, console)
    _print_verdicts(name, known, repeated, console)


def _read_own(path: Path) -> dict[str, RecordedRun]:
    """Read the runs of a check that were made by the present commit: those of another code are made again."""
    now = git_commit()
    return {key: run for key, run in read(path).items() if run.commit == now}


def _list_parts(name: str, data: Collection[str] | None, seeds: Collection[int] | None) -> Iterator[_Part]:
    """List what a claim consists of."""
    plan = load_plan()
    if name not in plan.claims:
        raise SettingError(f"--check {name}: the claims are {', '.join(plan.claims)}")
    claim = plan.claims[name]
    for entry in data or ():
        if entry not in claim.data:
            raise SettingError(f"--data {entry}: {name} is about {', '.join(claim.data)}")
    found = False
    for experiment in dict.fromkeys(claim.experiments.values()):
        reproduction = load(experiment)
        for entry in claim.data:
            if entry not in reproduction.data or entry not in (data or claim.data):
                continue
            cells = cells_of(reproduction, entry)
            tickets = [ticket for ticket, (_, seed) in cells.items() if seeds is None or seed in seeds]
            if tickets:
                found = True
                keys = [key_of(experiment, entry, *cells[ticket]) for ticket in tickets]
                yield _Part(experiment, reproduction, entry, tickets, keys)
    if not found:
        raise SettingError(f"--seeds {' '.join(map(str, seeds or ()))}: {name} has no run with such a seed")


def _repeat(part: _Part, keys: Collection[str], path: Path, name: str, workers: int) -> None:
    """Run what is left of a part."""
    cells = cells_of(part.reproduction, part.data)
    tickets = [ticket for ticket, key in zip(part.tickets, part.keys, strict=True) if key in keys]
    suffix = "-".join(word for word in ("-check", name, git_commit()[:7]) if word)
    plan = select_tickets(plan_for(part.experiment, part.reproduction, part.data, suffix), tickets)
    if len(tickets) == len(part.tickets):  # nothing is recorded: a study that is there is one whose record was removed
        study_file(plan.name).unlink(missing_ok=True)
    text = yaml.safe_dump({"check": name, "reproduction": part.experiment, "data": part.data})
    run_study(plan, Recorder(part.experiment, part.data, plan, cells, path), text, workers)


def _print_runs(
    parts: Sequence[_Part], known: dict[str, RecordedRun], repeated: dict[str, RecordedRun], console: Console
) -> None:
    """Print how many runs are the same, curve by curve."""
    table = Table("experiment", "data", "repeated", "in the record", "the same", "largest difference, points")
    for part in parts:
        pairs = [(known[key], repeated[key]) for key in part.keys if key in known and key in repeated]
        same = sum(a.curves == b.curves for a, b in pairs)
        apart = [abs(a.metrics["test/accuracy"] - b.metrics["test/accuracy"]) for a, b in pairs]
        n = sum(key in repeated for key in part.keys)
        row = [part.experiment, part.data, n, len(pairs), same, f"{100 * max(apart):.2f}" if apart else "–"]
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def _print_verdicts(
    name: str, known: dict[str, RecordedRun], repeated: dict[str, RecordedRun], console: Console
) -> None:
    """Print the verdicts of the repeated runs beside those of the record."""
    table = Table("claim", "data", "in the record", "repeated")
    judged = zip(all_claims(Runs(known.values())), all_claims(Runs(repeated.values())), strict=True)
    for before, now in judged:
        if before.name == name:
            words = [f"{claim.verdict}: {claim.ours}" for claim in (before, now)]
            table.add_row(*(escape(text) for text in (before.title, before.data, *words)))
    console.print(table)
