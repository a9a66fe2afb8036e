"""MLflow run of a study, in which the runs of its trials are nested."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import optuna
from mlflow.entities import RunStatus, RunTag

from psn_lightning.figure_style import save_figure
from psn_lightning.sweeps.liveness import failure_reason
from psn_lightning.sweeps.parent_run import ParentRun
from psn_lightning.sweeps.plan import Plan, best_trial, parent_run, set_parent_run
from psn_lightning.sweeps.study_figures import draw_study
from psn_lightning.sweeps.tickets import TICKET, State, trial_value
from psn_lightning.tracking.mlflow_private import MLFLOW_PARENT_RUN_ID
from psn_lightning.tracking.store import STAGE_TAG, patiently

_PATIENCE_SECONDS = 30.0  # of waiting for MLflow, or for the process that created the study


class StudyRun(ParentRun):
    """Run of a study.

    Args:
        plan: Study of the run; it is created if it does not exist.
        text: Configuration of the sweep, which is logged.
    """

    def __init__(self, plan: Plan, text: str) -> None:
        super().__init__(plan.config, plan.name)
        self._plan = plan
        created = plan.create()
        self._study, _ = plan.open()
        deadline = time.monotonic() + (0 if created else _PATIENCE_SECONDS)
        while (run_id := parent_run(self._study)) is None and time.monotonic() < deadline:
            time.sleep(0.2)
        if run_id is None:
            run_id = self._create({STAGE_TAG: "sweep", "study": plan.name, "role": "study"}, text, "sweep.yaml")
            set_parent_run(self._study, run_id)
        self._run = run_id

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
                save_figure(figure, Path(folder) / f"{name}.png", bbox_inches="tight")
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
