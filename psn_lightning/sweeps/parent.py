"""MLflow run of a study, in which the runs of its trials are nested."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import optuna
import yaml
from mlflow import MlflowClient
from mlflow.entities import RunStatus, RunTag

from psn_lightning.checkpoints.flat import flatten
from psn_lightning.errors import SettingError
from psn_lightning.sweeps.liveness import failure_reason
from psn_lightning.sweeps.plan import Plan, best_trial, parent_run, set_parent_run
from psn_lightning.sweeps.study_figures import draw_study
from psn_lightning.sweeps.tickets import TICKET, State, trial_value
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.mlflow_private import MLFLOW_PARENT_RUN_ID
from psn_lightning.tracking.processes import identity
from psn_lightning.tracking.provenance import provenance
from psn_lightning.tracking.store import PROCESS_TAG, STAGE_TAG, patiently

_PATIENCE_SECONDS = 30.0  # that the run waits for MLflow, or for the process that created the study


class StudyRun:
    """Run of a study: RUNNING within this context; afterwards FINISHED, KILLED if the sweep was stopped, or FAILED.

    Args:
        plan: Study of the run; it is created if it does not exist.
        text: Configuration of the sweep, which is logged.
    """

    def __init__(self, plan: Plan, text: str) -> None:
        self._plan = plan
        self._tracking = MLflowLogger(**{**plan.config["tracking"], "run_name": plan.name, "on_error": "fail"})
        created = plan.create()
        self._study, _ = plan.open()
        deadline = time.monotonic() + (0 if created else _PATIENCE_SECONDS)
        while (run_id := parent_run(self._study)) is None and time.monotonic() < deadline:
            time.sleep(0.2)
        self._run = run_id or self._create_run(text)

    @property
    def _client(self) -> MlflowClient:
        return self._tracking.client

    def _create_run(self, text: str) -> str:
        """Create the run, and log everything that the study is made of."""
        tags = provenance() | {STAGE_TAG: "sweep", "study": self._plan.name, "role": "study"}
        self._tracking.add_tags(tags)
        self._tracking.log_hyperparams(flatten(yaml.safe_load(text)))
        self._tracking.log_text(text, "sweep.yaml")
        tracking = self._plan.config["tracking"]
        shown = {**self._plan.config, "tracking": {**tracking, "uri": tracking["uri"] and self._tracking.store.shown}}
        self._tracking.log_text(yaml.safe_dump(shown, sort_keys=False), "config.yaml")
        self._tracking.hand_over()
        set_parent_run(self._study, self._tracking.run)
        return self._tracking.run

    def __enter__(self) -> StudyRun:
        with self._tracking.store.told():
            self._client.set_tag(self._run, PROCESS_TAG, json.dumps(identity()))
            self._client.update_run(self._run, status=RunStatus.to_string(RunStatus.RUNNING))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = RunStatus.FINISHED if error is None else RunStatus.FAILED
        if isinstance(error, SystemExit | KeyboardInterrupt):
            status = RunStatus.KILLED

        def end() -> None:
            with self._tracking.store.told():
                self._client.set_terminated(self._run, RunStatus.to_string(status))

        if error is None:
            patiently(end, _PATIENCE_SECONDS)
        else:
            with suppress(SettingError):
                end()

    def adopt(self, plan: Plan) -> None:
        """Nest the runs of another study in this run; the study is created if it does not exist."""
        plan.create()
        set_parent_run(plan.open()[0], self._run)

    def refresh(self, study: optuna.Study, state: State) -> None:
        """Update metrics and figures.

        Args:
            study: Study of this run.
            state: State of the study.

        Raises:
            OSError: If the store does not answer.
        """
        self._tracking.store.check()
        metrics: dict[str, float] = {
            "trials/complete": len(state.complete),
            "trials/pruned": len(state.done) - len(state.complete),
        }
        if state.complete:
            best = best_trial(state, self._plan)
            metrics[f"best/{self._plan.objective}"] = trial_value(best)
            self._client.set_tag(self._run, "best_trial", str(best.user_attrs[TICKET]))
        for name, value in metrics.items():
            history = self._client.get_metric_history(self._run, name)
            if all(metric.step < len(state.done) for metric in history):  # else an earlier command has logged it
                self._client.log_metric(self._run, name, value, step=len(state.done))
        figures = draw_study(study, state.complete, self._plan.space, self._plan.objective)
        with tempfile.TemporaryDirectory() as folder:
            for name, figure in figures.items():
                figure.savefig(Path(folder) / f"{name}.png", dpi=110, bbox_inches="tight")
            self._client.log_artifacts(self._run, folder)

    def mark_lost(self, plan: Plan, state: State) -> None:
        """Mark the runs of trials that failed for good as FAILED: no worker will end them.

        Args:
            plan: Plan of this study, or of one that was adopted.
            state: State of that study.

        Raises:
            StoreAwayError: If the store does not answer for half a minute.
        """
        if state.lost:
            patiently(lambda: self._mark_lost(plan, state), _PATIENCE_SECONDS)

    def _mark_lost(self, plan: Plan, state: State) -> None:
        with self._tracking.store.told():
            experiment = self._client.get_run(self._run).info.experiment_id
            for trial in state.lost:
                where = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self._run}' AND tags.trial = '{trial.user_attrs[TICKET]}'"
                where += f" AND tags.role = '{plan.role}' AND attributes.status = 'RUNNING'"
                for run in self._client.search_runs([experiment], where):
                    reason = [RunTag("failed", failure_reason(trial))]
                    self._client.log_batch(run.info.run_id, tags=reason)
                    self._client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FAILED))
