"""What the workers of a study are told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from psn_lightning.checkpoints.flat import flatten
from psn_lightning.checkpoints.origin import decisive
from psn_lightning.errors import SettingError
from psn_lightning.sweeps.storages import open_storage
from psn_lightning.sweeps.sweep import Direction, SamplerName, Space
from psn_lightning.sweeps.tickets import State, Tickets, value_of

_DIGEST = "configuration"  # user attribute of a study
_PARENT = "mlflow_run"  # user attribute of a study: its parent run


class ChangedStudyError(SettingError):
    """The study of a name was made by another configuration."""


@dataclass(frozen=True)
class Plan:
    """A study: its trials, and how one is run.

    Args:
        name: Of the study.
        storage: Optuna's, see :class:`~psn_lightning.sweeps.sweep.Sweep`.
        config: Complete configuration that every run starts from.
        space: What the sampler chooses, or what the tickets prescribe.
        tickets: The trials.
        sampler: Who chooses.
        pruner: Who ends bad trials; None: nobody.
        seeds: Seeds of each trial's runs; None: that of the configuration.
        objective: Metric that a trial is judged by.
        direction: Whether more of it is better.
        sees_test_set: Whether runs are evaluated on the test set at their end.
        role: How MLflow names the runs of this study: trial or retrained.
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
        """Name of the sweep: that of the study, also where this is the retraining of its best."""
        return self.name.split("/")[0]

    def create(self) -> bool:
        """Make the study, if there is none.

        Returns:
            Whether it was made: of several processes that try, by one.

        Raises:
            ChangedStudyError: If the study of that name was made by another configuration.
        """
        storage = open_storage(self.storage, self.family)
        try:
            study = optuna.create_study(storage=storage, study_name=self.name, direction=self.direction)
        except optuna.exceptions.DuplicatedStudyError:
            study, _ = self.open()
            if study.user_attrs.get(_DIGEST, self._digest()) != self._digest():
                raise ChangedStudyError(
                    f"name {self.name!r}: the study of that name has another configuration, space, objective or "
                    "seeds; take the changes back, or give the study another name"
                ) from None
            return False
        study.set_user_attr(_DIGEST, self._digest())
        return True

    def open(self) -> tuple[optuna.Study, BaseStorage]:
        """The study as it stands, and its storage."""
        storage = open_storage(self.storage, self.family)
        return optuna.load_study(study_name=self.name, storage=storage, pruner=self.pruner or NopPruner()), storage

    def sampler_of(self, ticket: int) -> BaseSampler:
        """The sampler of one ticket.

        Its generator depends on the ticket alone, all else it knows is in the storage: nothing is lost, and nothing
        drawn twice, when a study goes on.
        """
        seed = int.from_bytes(hashlib.sha256(f"{self.name}/{ticket}".encode()).digest()[:4], "big")
        if self.sampler == "tpe":
            return TPESampler(seed=seed, constant_liar=True)  # others' running trials count as bad: no two alike
        return RandomSampler(seed=seed)

    def seeds_of_a_trial(self, settings: dict[str, Any]) -> Sequence[int]:
        """Seeds of the runs of a trial."""
        return self.seeds or [settings.get("seed_everything", self.config["seed_everything"])]

    def _digest(self) -> str:
        """What must not change within a study; where it is tracked and how many trials it has may."""
        config = sorted((key, str(value)) for key, value in decisive(flatten(self.config)).items())
        parts = [config, list(self.space.items()), self.sampler, self.seeds, self.objective, self.direction]
        return hashlib.sha256(json.dumps(parts, default=vars).encode()).hexdigest()


def parent_run(study: optuna.Study) -> str | None:
    """MLflow run of the study, which the runs of its trials are nested in; None before there is one."""
    return study.user_attrs.get(_PARENT)


def set_parent_run(study: optuna.Study, run_id: str) -> None:
    """See :func:`parent_run`."""
    study.set_user_attr(_PARENT, run_id)


def best_of(state: State, plan: Plan) -> FrozenTrial:
    """The complete trial with the best value."""
    sign = 1.0 if plan.direction == "maximize" else -1.0
    return max(state.complete, key=lambda trial: sign * value_of(trial))
