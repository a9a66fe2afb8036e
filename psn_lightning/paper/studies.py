"""Studies of reproductions: their runs, and how they are added to a record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from lightning.pytorch.utilities.exceptions import SIGTERMException

from psn_lightning.errors import SettingError
from psn_lightning.paper.plan import plan_digest
from psn_lightning.paper.record import RECORD, append
from psn_lightning.paper.recorded_run import key_of
from psn_lightning.paper.tracked_runs import PLAN_TAG, TAG, recorded
from psn_lightning.sweeps.launchers import LocalLauncher
from psn_lightning.sweeps.parent import StudyRun
from psn_lightning.sweeps.plan import ChangedStudyError, Plan, parent_run
from psn_lightning.sweeps.storages import FOLDER, study_file
from psn_lightning.sweeps.supervisor import Stopped, Supervisor
from psn_lightning.sweeps.tickets import TICKET, State
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.mlflow_private import MLFLOW_PARENT_RUN_ID
from psn_lightning.tracking.store import StoreAwayError


def run_study(plan: Plan, recorder: Recorder, text: str, workers: int, until: float = math.inf) -> None:
    """Run the study of one data set.

    Args:
        plan: Plan of the study.
        recorder: Recorder of its runs.
        text: Description of the study in MLflow.
        workers: Number of processes.
        until: Time of ``time.monotonic`` after which no run is started.

    Raises:
        SettingError: If the study's files are of another grid, or runs failed for good.
        SIGTERMException: If the command was stopped.
    """
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
                    f"trials {listed} have ended, but their end has not reached MLflow, so they are not recorded: "
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
        cells: Cell and seed by ticket of the study.
        record: File of the record.
    """

    def __init__(
        self, name: str, data: str, plan: Plan, cells: Mapping[int, tuple[dict[str, Any], int]], record: Path = RECORD
    ) -> None:
        self._name = name
        self._data = data
        self._cells = cells
        self._record = record
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
            append(recorded(self._client, run, self._name, self._data, cell, self._plan_digest), self._record)
            self._done.add(ticket)
        return missing
