"""What a sweep is, as its configuration says."""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]
from jsonargparse.typing import Path_fr
from optuna.pruners import BasePruner

from psn_lightning.commands.messages import check_configs, explained
from psn_lightning.errors import SettingError
from psn_lightning.tracking.address import without_password

_LONGEST_NAME = 100  # bytes; a file's may have 255 with what is appended
_SEEDS = 2**32  # Lightning takes those below

SamplerName = Literal["tpe", "random", "grid"]
Direction = Literal["maximize", "minimize"]
Group = dict[str, dict[str, Any]]
"""Names, and the settings that each stands for."""


@dataclass(frozen=True)
class Range:
    """A number between two bounds; an integer if both are.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Whether to draw its logarithm evenly.
    """

    low: int | float
    high: int | float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise SettingError(f"the range from {self.low} to {self.high} is empty: low must not be above high")
        if self.log and self.low <= 0:
            raise SettingError(f"the range from {self.low} to {self.high} has no logarithm: low must be above 0")


Space = dict[str, Range | Group | list[Any]]
"""What differs: setting → values, or name of a group → its members."""


@dataclass(frozen=True)
class Sweep:
    """Many runs of one configuration, each with other settings.

    Args:
        name: Name of the study; the same command goes on with the study of that name.
        base: Configurations of ``psn-train fit`` that every run starts from; later ones win.
        space: What differs: setting → list of values, or ``{low: …, high: …, log: …}``. Settings are named as in the
            configuration: ``model.sparsity``, ``trainer.callbacks.0.init_args.period``. Several that change together
            are a group: a name of your own → ``{dense: {model.sparsity: 0}, bell: {model.topology: Bell}}``.
        settings: What all runs have instead of the base's: setting → value.
        sampler: Who chooses the values: tpe and random draw trials, grid takes every combination of the lists.
        trials: How many there are; with grid as many as combinations.
        pruner: Optuna's rule that ends bad trials between two epochs, by class path; null: none.
        seeds: Seeds of each trial's runs; it is judged by their mean. Null: that of the base.
        objective: Metric that a trial is judged by, at the end of its last epoch.
        direction: Whether more of it is better: maximize or minimize.
        retrain_seeds: Seeds of runs that train the best trial's settings once more and then see the test set, the only
            ones to do so. Empty: none.
        retries: How often a trial is tried again whose worker died.
        workers: Processes on this machine; they share its cores.
        storage: Optuna's storage: ``postgresql://user@host/database`` for many machines; null: a journal file in
            mlruns/studies.
    """

    name: str
    base: list[Path_fr]
    space: Space
    settings: dict[str, Any] = field(default_factory=dict)
    sampler: SamplerName = "tpe"
    trials: int | None = None
    pruner: BasePruner | None = None
    seeds: list[int] | None = None
    objective: str = "val/accuracy"
    direction: Direction = "maximize"
    retrain_seeds: list[int] = field(default_factory=list)
    retries: int = 2
    workers: int = 1
    storage: str | None = None

    def __post_init__(self) -> None:
        self._check_name()
        if not self.space or not self.base:
            raise SettingError("a sweep needs a base (configurations) and a space (settings that differ)")
        for key, values in self.space.items():
            if not isinstance(values, Range) and (not values or len(values) != len({repr(v) for v in values})):
                raise SettingError(f"space {key}: {values} must list at least one value, and none of them twice")
        for setting in ("trials", "workers"):
            value = getattr(self, setting)
            if value is not None and value < 1:
                raise SettingError(f"{setting} {value} must be at least 1")
        if self.retries < 0:
            raise SettingError(f"retries {self.retries} must be at least 0")
        self._check_sampler()
        self._check_seeds()

    def _check_name(self) -> None:
        usual = re.fullmatch(rf"[\w.\- ]{{1,{_LONGEST_NAME}}}", self.name) and self.name.strip(". ")
        if not usual or len(self.name.encode()) > _LONGEST_NAME:
            raise SettingError(
                f"name {self.name[:_LONGEST_NAME]!r} of the study must be a word of letters, digits, '-', '_', '.' and "
                f"blanks, of at most {_LONGEST_NAME} bytes: files are named after it"
            )

    def _check_seeds(self) -> None:
        if self.seeds is not None and "seed_everything" in self.space:
            raise SettingError("seeds and space seed_everything say the same in two ways: give one")
        if self.seeds == []:
            raise SettingError("seeds []: give one at least, or null for that of the base")
        for setting, seeds in (("seeds", self.seeds or []), ("retrain_seeds", self.retrain_seeds)):
            if len(set(seeds)) < len(seeds) or not all(0 <= seed < _SEEDS for seed in seeds):
                raise SettingError(f"{setting} {seeds} must be numbers from 0 to {_SEEDS - 1}, none of them twice")

    def _check_sampler(self) -> None:
        if self.sampler == "grid":
            ranges = [key for key, values in self.space.items() if isinstance(values, Range)]
            if ranges:
                raise SettingError(f"space {ranges[0]}: sampler grid takes lists of values, not a range")
            if self.trials is not None:
                raise SettingError(f"trials {self.trials}: sampler grid has one trial per combination; leave it out")
        elif self.trials is None:
            raise SettingError(f"sampler {self.sampler} needs the number of trials")
        elif self.objective.startswith("test/"):
            raise SettingError(
                f"objective {self.objective}: a search would choose by the test set; use val/… with "
                "data.init_args.val_fraction, or sampler grid, which chooses nothing"
            )


def parse(arguments: Sequence[str]) -> tuple[Sweep, str]:
    """Read a sweep from the command line: ``--config`` files and ``--setting value``.

    Returns:
        The sweep, and its configuration as YAML without the passwords of stores.

    Raises:
        SettingError: If a setting is unknown, or its value cannot be.
    """
    parser = ArgumentParser(prog="psn-train sweep", description=__doc__, exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML with the settings below")
    parser.add_class_arguments(Sweep)
    check_configs(arguments)
    try:
        config = parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise explained(error, parser) from error
    config.pop("config")
    sweep = Sweep(**vars(parser.instantiate_classes(config)))
    config.storage = sweep.storage and without_password(sweep.storage)
    if "tracking.uri" in sweep.settings:
        config.settings = {**sweep.settings, "tracking.uri": without_password(str(sweep.settings["tracking.uri"]))}
    return sweep, parser.dump(config, skip_none=False)
