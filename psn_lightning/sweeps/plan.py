"""Plan of a study: everything that a worker has to know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from psn_lightning.checkpoints.differences import decisive
from psn_lightning.checkpoints.flat import flatten
from psn_lightning.errors import SettingError
from psn_lightning.sweeps.storages import open_storage
from psn_lightning.sweeps.sweep import Direction, SamplerName, Space
from psn_lightning.sweeps.tickets import State, Tickets, trial_value

_DIGEST = "configuration"  # user attribute of a study
_PARENT = "mlflow_run"  # user attribute of a study


class ChangedStudyError(SettingError):
    """The study of a name was created with another configuration."""


@dataclass(frozen=True)
class Plan:
    """A study: its trials, and how one of them is run.

    Args:
        name: Name of the study.
        storage: URL of Optuna's storage, see :class:`~psn_lightning.sweeps.sweep.Sweep`.
        config: Complete configuration that every run starts from.
        space: Values that the sampler draws, or that the tickets prescribe.
        tickets: Trials of the study.
        sampler: Name of the sampler.
        pruner: Pruner of bad trials; None: every trial runs to its end.
        seeds: Seeds of each trial's runs; None: the configuration's seed.
        objective: Metric that a trial is judged by.
        direction: Whether the objective is maximized or minimized.
        sees_test_set: Whether runs are evaluated on the test set at their end.
        role: Tag of the study's runs in MLflow: trial or retrained.
    """

    name: str
    storage: str | None
    config: dict[str, Any]
    space: Space
    tickets: Tickets
    sampler: SamplerName
    pruner: BasePruner | None
    seeds: Sequence[int] | None
    objective: str
    direction: Direction
    sees_test_set: bool = False
    role: str = "trial"

    @property
    def family(self) -> str:
        """Name of the sweep: that of the study, also if this study retrains the best trial of it."""
        return self.name.split("/")[0]

    def create(self) -> bool:
        """Create the study if it does not exist, or nothing but failures is left of one with another configuration.

        Returns:
            Whether this process created it; of several that try, one does.

        Raises:
            ChangedStudyError: If the study of that name was created with another configuration.
        """
        storage = open_storage(self.storage, self.family)
        try:
            study = optuna.create_study(storage=storage, study_name=self.name, direction=self.direction)
        except optuna.exceptions.DuplicatedStudyError:
            study, _ = self.open()
            if study.user_attrs.get(_DIGEST, self._digest()) != self._digest():
                states = {trial.state for trial in study.get_trials(deepcopy=False)}
                if TrialState.FAIL in states and states <= {TrialState.FAIL, TrialState.WAITING}:
                    optuna.delete_study(study_name=self.name, storage=storage)  # a wrong setting has cost no result
                    return self.create()
                raise ChangedStudyError(
                    f"name {self.name!r}: the study of that name has another configuration, space, objective or "
                    "seeds; undo the changes, or give the study another name"
                ) from None
            return False
        study.set_user_attr(_DIGEST, self._digest())
        return True

    def open(self) -> tuple[optuna.Study, RDBStorage]:
        """Open the study as it stands, and its storage."""
        storage = open_storage(self.storage, self.family)
        return optuna.load_study(study_name=self.name, storage=storage, pruner=self.pruner or NopPruner()), storage

    def sampler_of(self, ticket: int) -> BaseSampler:
        """Sampler of a ticket.

        Its seed depends on the ticket alone, and everything else it knows is in the storage: a study that is stopped
        and goes on draws what it would have drawn.
        """
        seed = int.from_bytes(hashlib.sha256(f"{self.name}/{ticket}".encode()).digest()[:4], "big")
        if self.sampler == "tpe":
            return TPESampler(seed=seed, constant_liar=True)  # running trials count as bad, so that no two are alike
        return RandomSampler(seed=seed)

    def seeds_of_a_trial(self, settings: dict[str, Any]) -> Sequence[int]:
        """Seeds of the runs of a trial."""
        return self.seeds or [settings.get("seed_everything", self.config["seed_everything"])]

    def _digest(self) -> str:
        """Digest of what must not change within a study; tracking and the number of trials may."""
        config = sorted((key, str(value)) for key, value in decisive(flatten(self.config)).items())
        parts = [config, list(self.space.items()), self.sampler, self.seeds, self.objective, self.direction]
        return hashlib.sha256(json.dumps(parts, default=vars).encode()).hexdigest()


def parent_run(study: optuna.Study) -> str | None:
    """MLflow run of a study, in which the runs of its trials are nested; None before it is created."""
    return study.user_attrs.get(_PARENT)


def set_parent_run(study: optuna.Study, run_id: str) -> None:
    """Store the MLflow run of a study."""
    study.set_user_attr(_PARENT, run_id)


def best_trial(state: State, plan: Plan) -> FrozenTrial:
    """Complete trial with the best value."""
    sign = 1.0 if plan.direction == "maximize" else -1.0
    return max(state.complete, key=lambda trial: sign * trial_value(trial))
