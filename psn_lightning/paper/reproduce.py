"""``psn-train reproduce``: run the paper's tables and figures, and add the runs to ``results/runs.jsonl``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import optuna
import yaml
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console

from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError
from psn_lightning.paper.cost import print_list
from psn_lightning.paper.plan import plan_digest
from psn_lightning.paper.record import PLAN_TAG, RECORD, TAG, append, key_of, read, recorded
from psn_lightning.paper.reproduction import Reproduction, cells_of, load, plan_for, select_tickets
from psn_lightning.sweeps.launchers import LocalLauncher
from psn_lightning.sweeps.parent import StudyRun
from psn_lightning.sweeps.plan import ChangedStudyError, Plan, parent_run
from psn_lightning.sweeps.storages import FOLDER, silence_optuna, study_file
from psn_lightning.sweeps.supervisor import Stopped, Supervisor
from psn_lightning.sweeps.sweep import Range
from psn_lightning.sweeps.tickets import TICKET, State
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.mlflow_private import MLFLOW_PARENT_RUN_ID
from psn_lightning.tracking.store import StoreAwayError


def run(arguments: Sequence[str]) -> None:
    """Run the part of a reproduction that is not recorded yet, or list all reproductions.

    Args:
        arguments: Command line after ``psn-train reproduce``.

    Raises:
        SettingError: If a name or option is not possible, or runs failed for good.
        SIGTERMException: If the command was stopped.
    """
    options = parser().parse_args(list(arguments))
    silence_optuna()
    if options.list or options.name is None:
        print_list()
        return
    reproduction = load(options.name)
    data = list(dict.fromkeys(options.data or reproduction.data))
    _check(options.name, reproduction, data, options.seeds)
    _check_resources(options.workers, options.budget)
    is_wanted = _parse_only(options.name, reproduction, options.only)
    until = time.monotonic() + 60 * options.budget if options.budget else math.inf
    suffix = f"-again-{datetime.now(UTC):%Y%m%d}" if options.again else ""
    recorded_runs = read()  # also with --again: the record must be one that can be added to
    known = {} if options.again else recorded_runs
    for entry in data:
        cells = cells_of(reproduction, entry)
        seeds = options.seeds or reproduction.seeds_of(entry)
        left = [
            ticket
            for ticket, (cell, seed) in enumerate(cells)
            if seed in seeds and is_wanted(cell) and key_of(options.name, entry, cell, seed) not in known
        ]
        if left:
            plan = select_tickets(plan_for(options.name, reproduction, entry, suffix), left)
            text = yaml.safe_dump({"reproduction": options.name, "title": reproduction.title, "data": entry})
            _run(plan, Recorder(options.name, entry, plan, cells), text, options.workers, until)
        else:
            asked = "what is asked for" if options.only or options.seeds else "all"
            Console().print(f"{options.name}, {entry}: {asked} is in {RECORD}, nothing is left to do", highlight=False)


def _run(plan: Plan, recorder: Recorder, text: str, workers: int, until: float) -> None:
    """Run the study of one data set; the text describes it in MLflow."""
    try:
        study_run = StudyRun(plan, text)
    except ChangedStudyError:
        raise SettingError(
            f"{plan.name}: conf/reproduce or its base has changed since {study_file(plan.name)} was created; remove "
            "that file to start the study anew: recorded runs are not repeated"
        ) from None
    with study_run as parent:

        def on_progress(study: optuna.Study, state: State) -> None:
            missing = recorder.update(study, state)
            parent.refresh(study, state)
            if missing:
                listed = ", ".join(map(str, missing))
                raise StoreAwayError(
                    f"trials {listed} have ended, but their end has not reached MLflow, so they are not in {RECORD}: "
                    "start psn-train sync, then the same command again"
                )

        try:
            state = Supervisor(plan, LocalLauncher(workers), on_progress, until).run()
        except Stopped as stopped:
            raise SIGTERMException(f"stopped; the same command goes on with {stopped}") from None
        parent.mark_lost(plan, state)
    if state.lost:
        raise SettingError(
            f"{plan.name}: {len(state.lost)} runs failed for good; their logs are in {FOLDER / plan.name}"
        )


class Recorder:
    """Adds the finished runs of a study to the record.

    Args:
        name: Name of the reproduction.
        data: Short name of the data set.
        plan: Plan of the study.
        cells: Cell and seed of each ticket of the study.
    """

    def __init__(self, name: str, data: str, plan: Plan, cells: Sequence[tuple[dict[str, Any], int]]) -> None:
        self._name = name
        self._data = data
        self._cells = cells
        self._plan_digest = plan_digest()
        self._client = MLflowLogger(**plan.config["tracking"]).client
        self._done: set[int] = set()

    def update(self, study: optuna.Study, state: State) -> list[int]:
        """Add the runs that have finished since the last call, or under an earlier command that was killed.

        Args:
            study: Study of the runs.
            state: State of the study.

        Returns:
            Trials whose end has not reached MLflow.
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
            self._client.set_tag(run.info.run_id, PLAN_TAG, self._plan_digest)
            append(recorded(self._client, run, self._name, self._data, cell, self._plan_digest))
            self._done.add(ticket)
        return missing


def _check(name: str, reproduction: Reproduction, data: Sequence[str], seeds: Sequence[int] | None) -> None:
    for entry in data:
        if entry not in reproduction.data:
            raise SettingError(f"--data {entry}: {name} has {', '.join(reproduction.data)}")
    known = dict.fromkeys(seed for entry in data for seed in reproduction.seeds_of(entry))
    for seed in seeds or []:
        if seed not in known:
            raise SettingError(f"--seeds {seed}: {name} has {', '.join(map(str, known))}")


def _check_resources(workers: int, budget: float | None) -> None:
    if workers < 1:
        raise SettingError(f"--workers {workers} must be at least 1")
    if budget is not None and not 0 < budget < math.inf:
        raise SettingError(f"--budget {budget:g} must be a number of minutes above 0; leave it out for no limit")


def _parse_only(name: str, reproduction: Reproduction, only: Sequence[str]) -> Callable[[dict[str, Any]], bool]:
    """Make the function that says whether ``--only`` selects a cell."""
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


def parser() -> CommandParser:
    """Parser of the command's arguments."""
    parser = CommandParser(prog="psn-train reproduce", description=__doc__)
    parser.add_argument("name", nargs="?", help="name of the reproduction, see --list")
    parser.add_argument("--list", action="store_true", help="list what is done, and how long the rest takes")
    parser.add_argument("--data", nargs="+", help="short names of data sets; default: all of the reproduction")
    parser.add_argument("--seeds", nargs="+", type=int, help="seeds; default: all of the reproduction")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="cells to run: model.sparsity=0.9 start=erk start=uniform; default: all",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes, which share the cores; default: 1")
    parser.add_argument("--budget", type=float, help="minutes after which no run is started; default: no limit")
    parser.add_argument("--again", action="store_true", help="repeat runs that are recorded")
    return parser
