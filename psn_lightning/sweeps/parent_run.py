"""MLflow run in which other runs are nested: of a study, or of a lottery."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import yaml
from mlflow import MlflowClient
from mlflow.entities import RunStatus

from psn_lightning.checkpoints.flat import flatten
from psn_lightning.errors import SettingError
from psn_lightning.tracking import MLflowLogger
from psn_lightning.tracking.processes import identity
from psn_lightning.tracking.provenance import provenance
from psn_lightning.tracking.store import KILLED_TAG, PROCESS_TAG, patiently

_PATIENCE_SECONDS = 30.0  # of waiting for MLflow at the end


class ParentRun:
    """Parent run: RUNNING within this context; afterwards FINISHED, KILLED if the command was stopped, or FAILED.

    A subclass finds or creates the run, and sets ``_run``.

    Args:
        config: Complete configuration of the nested runs; the parent is tracked where they are.
        name: Name of the run.
    """

    def __init__(self, config: Mapping[str, Any], name: str) -> None:
        self._config = config
        self._tracking = MLflowLogger(**{**config["tracking"], "run_name": name, "on_error": "fail"})
        self._run: str

    @property
    def _client(self) -> MlflowClient:
        return self._tracking.client

    def _create(self, tags: Mapping[str, str], text: str, file: str) -> str:
        """Create the run.

        Args:
            tags: Tags beside those of code and machine.
            text: Settings of the command as YAML, which are logged as parameters and as an artifact.
            file: Name of that artifact.

        Returns:
            Id of the run.
        """
        self._tracking.add_tags(provenance() | dict(tags))
        self._tracking.log_hyperparams(flatten(yaml.safe_load(text)))
        self._tracking.log_text(text, file)
        tracking = self._config["tracking"]
        shown = {**self._config, "tracking": {**tracking, "uri": tracking["uri"] and self._tracking.store.shown}}
        self._tracking.log_text(yaml.safe_dump(shown, sort_keys=False), "config.yaml")
        self._tracking.hand_over()
        return self._tracking.run

    def __enter__(self) -> Self:
        with self._tracking.store.told():
            self._client.set_tag(self._run, PROCESS_TAG, json.dumps(identity()))
            self._client.update_run(self._run, status=RunStatus.to_string(RunStatus.RUNNING))
            if KILLED_TAG in self._client.get_run(self._run).data.tags:  # of a command before this one
                self._client.delete_tag(self._run, KILLED_TAG)
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
