"""``psn-train reproduce``: the paper's tables and figures, each by one command, into ``results/runs.jsonl``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import optuna
import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError, compact
from psn_lightning.paper.cost import seconds_of_a_run
from psn_lightning.paper.record import RECORD, TAG, RecordedRun, append, key_of, read, recorded
from psn_lightning.paper.reproduction import Reproduction, cells_of, load, names, only, plan_for
from psn_lightning.sweeps.parent import StudyRun
from psn_lightning.sweeps.plan import ChangedStudyError, Plan, parent_run
from psn_lightning.sweeps.storages import FOLDER, journal_of, quieten
from psn_lightning.sweeps.supervisor import Stopped, Supervisor
from psn_lightning.sweeps.sweep import Range
from psn_lightning.sweeps.tickets import TICKET, State
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.store import StoreAwayError


def run(arguments: Sequence[str]) -> None:
    """Run what of a reproduction is not recorded yet, or list all of them.

    Raises:
        SettingError: If a name or option cannot be, or runs failed for good.
        SIGTERMException: If it was stopped.
    """
    options = parser().parse_args(list(arguments))
    quieten()
    if options.list or options.name is None:
        _list()
        return
    reproduction = load(options.name)
    data = list(dict.fromkeys(options.data or reproduction.data))
    _check(options.name, reproduction, data, options.seeds)
    _check_resources(options.workers, options.budget)
    wanted = _chosen(options.name, reproduction, options.only)
    until = time.monotonic() + 60 * options.budget if options.budget else math.inf
    suffix = f"-again-{datetime.now(UTC):%Y%m%d}" if options.again else ""
    recorded_runs = read()  # also where all is run again: it must be one that can be added to
    known = {} if options.again else recorded_runs
    for entry in data:
        cells = cells_of(reproduction, entry)
        seeds = options.seeds or reproduction.seeds
        left = [
            ticket
            for ticket, (cell, seed) in enumerate(cells)
            if seed in seeds and wanted(cell) and key_of(options.name, entry, cell, seed) not in known
        ]
        if left:
            plan = only(plan_for(options.name, reproduction, entry, suffix), left)
            text = yaml.safe_dump({"reproduction": options.name, "title": reproduction.title, "data": entry})
            _run(plan, Recorder(options.name, entry, plan, cells), text, options.workers, until)
        else:
            asked = "what is asked for" if options.only or options.seeds else "all"
            Console().print(f"{options.name}, {entry}: {asked} is in {RECORD}, nothing is left to do", highlight=False)


def _run(plan: Plan, recorder: Recorder, text: str, workers: int, until: float) -> None:
    """Run the study of one data set; the text is its description in MLflow."""
    try:
        study_run = StudyRun(plan, text)
    except ChangedStudyError:
        raise SettingError(
            f"{plan.name}: conf/reproduce or what it builds on has changed since {journal_of(plan.name)} was begun; "
            "remove that file to begin it anew: what is recorded is not run again"
        ) from None
    with study_run as parent:

        def on_progress(study: optuna.Study, state: State) -> None:
            missing = recorder.update(study, state)
            parent.refresh(study, state)
            if missing:
                listed = ", ".join(map(str, missing))
                raise StoreAwayError(
                    f"trials {listed} have ended, but MLflow does not know it, so they are not in {RECORD}: psn-train "
                    "sync, then the same command again"
                )

        try:
            state = Supervisor(plan, workers, on_progress, until).run()
        except Stopped as stopped:
            raise SIGTERMException(f"stopped; the same command goes on with {stopped}") from None
        parent.close_lost(plan, state)
    if state.lost:
        raise SettingError(
            f"{plan.name}: {len(state.lost)} runs failed for good; what their workers printed is in {FOLDER}"
        )


class Recorder:
    """Adds the finished runs of a study to the record.

    Args:
        name: Of the reproduction.
        data: The data set's short name.
        plan: The study.
        cells: Cell and seed of each of its tickets.
    """

    def __init__(self, name: str, data: str, plan: Plan, cells: Sequence[tuple[dict[str, Any], int]]) -> None:
        self._name = name
        self._data = data
        self._cells = cells
        self._client = MLflowLogger(**plan.config["tracking"]).client
        self._done: set[int] = set()

    def update(self, study: optuna.Study, state: State) -> list[int]:
        """Add what has finished since the last time, also under an earlier command that did not come to record it.

        Returns:
            Trials whose end is not in MLflow yet.
        """
        missing = []
        for trial in state.complete:
            ticket = trial.user_attrs[TICKET]
            if ticket in self._done:
                continue
            cell, seed = self._cells[ticket]
            parent = parent_run(study)
            assert parent is not None
            experiment = self._client.get_run(parent).info.experiment_id
            where = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}' AND tags.trial = '{ticket}'"
            found = self._client.search_runs([experiment], f"{where} AND attributes.status = 'FINISHED'", max_results=1)
            if not found:
                missing.append(ticket)
                continue
            run = found[0]  # the newest
            self._client.set_tag(run.info.run_id, TAG, key_of(self._name, self._data, cell, seed))
            append(recorded(self._client, run, self._name, self._data, cell))
            self._done.add(ticket)
        return missing


def _check(name: str, reproduction: Reproduction, data: Sequence[str], seeds: Sequence[int] | None) -> None:
    for entry in data:
        if entry not in reproduction.data:
            raise SettingError(f"--data {entry}: {name} has {', '.join(reproduction.data)}")
    for seed in seeds or []:
        if seed not in reproduction.seeds:
            raise SettingError(f"--seeds {seed}: {name} has {', '.join(map(str, reproduction.seeds))}")


def _check_resources(workers: int, budget: float | None) -> None:
    if workers < 1:
        raise SettingError(f"--workers {workers} must be at least 1")
    if budget is not None and not 0 < budget < math.inf:
        raise SettingError(f"--budget {budget:g} must be a number of minutes above 0; without it there is no end")


def _chosen(name: str, reproduction: Reproduction, only: Sequence[str]) -> Callable[[dict[str, Any]], bool]:
    """Whether a cell is one of those that ``--only`` names."""
    chosen: dict[str, set[str]] = {}
    for choice in only:
        key, _, value = choice.partition("=")
        known = reproduction.space.get(key)
        if known is None or isinstance(known, Range):
            raise SettingError(f"--only {choice}: give KEY=VALUE; {name} has {', '.join(reproduction.space)}")
        if value not in map(str, known):
            raise SettingError(f"--only {choice}: {key} is one of {', '.join(map(str, known))}")
        chosen.setdefault(key, set()).add(value)
    return lambda cell: all(str(cell[key]) in values for key, values in chosen.items())


def _list() -> None:
    """What there is, what of it is done, and what the rest costs."""
    known, console = read(), Console()
    table = Table("reproduction", "data", "runs", "done", "left, hours", "what")
    for name in names():
        reproduction = load(name)
        for data in reproduction.data:
            cells = cells_of(reproduction, data)
            left = len(cells) - sum(key_of(name, data, cell, seed) in known for cell, seed in cells)
            with console.status(f"{name}, {data}: how long does a run take?"):
                hours = _hours(name, reproduction, data, known, left)
            title = reproduction.title if data == next(iter(reproduction.data)) else ""
            table.add_row(*map(escape, (name, data, str(len(cells)), str(len(cells) - left), hours, title)))
    console.print(table)
    console.print("Hours of one run after the other on this machine; --workers 2 on two cores takes about half.")


def _hours(name: str, reproduction: Reproduction, data: str, known: Mapping[str, RecordedRun], left: int) -> str:
    """What is left, in hours."""
    if not left:
        return "0.0"
    try:
        return f"{seconds_of_a_run(name, reproduction, data, known) * left / 3600:.1f}"
    except ValueError as error:
        told = SettingError.inside(error)
        if told is None:
            raise
        return f"? ({compact(told)})"  # as where the data are not on this machine


def parser() -> CommandParser:
    """What the command takes."""
    parser = CommandParser(prog="psn-train reproduce", description=__doc__)
    parser.add_argument("name", nargs="?", help="which one, see --list")
    parser.add_argument("--list", action="store_true", help="what there is, what is done, what the rest costs")
    parser.add_argument("--data", nargs="+", help="data sets by short name; default all that it has")
    parser.add_argument("--seeds", nargs="+", type=int, help="default all that it has")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="some cells: model.sparsity=0.9 start=erk start=uniform",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes, which share the cores; default 1")
    parser.add_argument("--budget", type=float, help="minutes after which no run begins any more; default no end")
    parser.add_argument("--again", action="store_true", help="also what is recorded already")
    return parser
