"""Configuration of a sweep."""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # type: ignore[attr-defined]
from optuna.pruners import BasePruner

from psn_lightning.commands.config_files import check_configs
from psn_lightning.commands.config_type import ConfigFile
from psn_lightning.commands.messages import parser_error
from psn_lightning.errors import SettingError
from psn_lightning.tracking.address import without_password

_LONGEST_NAME = 100  # bytes; names of files have at most 255, and suffixes are appended
_SEEDS = 2**32  # Lightning takes seeds below

SamplerName = Literal["tpe", "random", "grid"]
Direction = Literal["maximize", "minimize"]
LauncherName = Literal["local", "slurm"]
Group = dict[str, dict[str, Any]]
"""Settings by the name that stands for them."""
DASHBOARD = "--dashboard"
"""Option of the command that no configuration has."""


@dataclass(frozen=True)
class Range:
    """A number between two bounds; an integer if both bounds are integers.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Whether the logarithm is drawn evenly.
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
"""Settings that differ: setting → values, or name of a group → its members."""


@dataclass(frozen=True)
class Sweep:
    """Many runs of one configuration, each with other settings.

    Args:
        name: Name of the study; the same command goes on with the study of that name.
        base: Configurations of ``psn-train fit`` that every run starts from, by path or name; later ones win.
        space: Settings that differ: setting → list of values, or ``{low: …, high: …, log: …}``. Settings are named as
            in the configuration: ``model.sparsity``, ``trainer.callbacks.0.init_args.period``. Several that change
            together are a group: a name of your own → ``{dense: {model.sparsity: 0}, bell: {model.topology: Bell}}``;
            within it the text ``{KEY}`` stands for the trial's value of another setting of the space.
        settings: Settings of all runs that replace those of the base: setting → value.
        sampler: Sampler of the values: tpe and random draw trials, grid takes every combination of the lists.
        trials: Number of trials; null with grid, which has one for every combination.
        pruner: Optuna's pruner, which ends bad trials between two epochs, by class path; null: no pruner.
        seeds: Seeds of each trial's runs; a trial is judged by the mean of its runs. Null: the seed of the base.
        objective: Metric that a trial is judged by, at the end of its last epoch.
        direction: Whether the objective is to be large or small: maximize or minimize.
        retrain_seeds: Seeds of runs that train the best trial's settings once more and then see the test set, the only
            ones to do so. Empty: no such runs.
        retries: Number of times that a trial is tried again after its worker died.
        workers: Largest number of trials that run at a time: processes that share this machine, or jobs.
        launcher: Place of the workers: local (processes of this machine) or slurm (one job of a cluster per trial).
        slurm: Parameters of the jobs, as submitit names them: ``{timeout_min: 60, slurm_partition: gpu}``.
        storage: URL of Optuna's storage: ``postgresql://user@host/database`` for several machines; null: a SQLite file
            in mlruns/studies.
    """

    name: str
    base: list[ConfigFile]
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
    launcher: LauncherName = "local"
    slurm: dict[str, Any] = field(default_factory=dict)
    storage: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "study")
        if not self.space or not self.base:
            raise SettingError("a sweep needs a base (configurations) and a space (settings that differ)")
        for key, values in self.space.items():
            if not isinstance(values, Range) and (not values or len(values) != len({repr(v) for v in values})):
                raise SettingError(f"space {key}: {values} must list at least one value, and none of them twice")
        self._check_keys()
        for setting in ("trials", "workers"):
            value = getattr(self, setting)
            if value is not None and value < 1:
                raise SettingError(f"{setting} {value} must be at least 1")
        if self.retries < 0:
            raise SettingError(f"retries {self.retries} must be at least 0")
        self._check_sampler()
        self._check_seeds()
        self._check_launcher()

    def _check_keys(self) -> None:
        """Refuse a setting that two parts of the space set: the later one would win, under the label of both."""
        owners: dict[str, str] = {}
        for key, values in self.space.items():
            own = {name for member in values.values() for name in member} if isinstance(values, dict) else {key}
            for name in own:
                if name in owners:
                    raise SettingError(f"space {owners[name]} and {key} both set {name}: give it in one of them")
                owners[name] = key

    def _check_seeds(self) -> None:
        if self.seeds is not None and "seed_everything" in self.space:
            raise SettingError("seeds and space seed_everything both give seeds: give one of them")
        if self.seeds == []:
            raise SettingError("seeds []: give one at least, or null for the seed of the base")
        for setting, seeds in (("seeds", self.seeds or []), ("retrain_seeds", self.retrain_seeds)):
            if len(set(seeds)) < len(seeds) or not all(0 <= seed < _SEEDS for seed in seeds):
                raise SettingError(f"{setting} {seeds} must be numbers from 0 to {_SEEDS - 1}, none of them twice")
        searched = {*(self.seeds or []), *_list_values(self.space.get("seed_everything", []))}
        if known := sorted(searched & set(self.retrain_seeds)):
            raise SettingError(f"retrain_seeds {known} are those that the search has seen: give new ones")
        if self.retrain_seeds and not self.objective.startswith("val/"):
            raise SettingError(
                f"objective {self.objective}: retrain_seeds train the best again and evaluate it on the test set, as "
                "test/…, so the objective has to be val/…; or leave retrain_seeds out"
            )

    def _check_launcher(self) -> None:
        if self.launcher == "slurm" and self.storage is None:
            raise SettingError(
                "launcher slurm needs a storage that the nodes reach: give storage postgresql://user@host/database"
            )
        if self.launcher == "local" and self.slurm:
            raise SettingError(f"slurm {self.slurm}: parameters of jobs need launcher slurm")

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


def _list_values(values: Any) -> list[Any]:
    """List the values of a setting of the space; none of a range."""
    return [] if isinstance(values, Range) else list(values)


def check_name(name: str, kind: str) -> None:
    """Check a name.

    Args:
        name: Name of a study or lottery.
        kind: Which of them, for the message.

    Raises:
        SettingError: If files cannot be named after it.
    """
    usual = re.fullmatch(rf"[\w.\- ]{{1,{_LONGEST_NAME}}}", name) and name.strip(". ")
    if not usual or len(name.encode()) > _LONGEST_NAME:
        raise SettingError(
            f"name {name[:_LONGEST_NAME]!r} of the {kind} must be a word of letters, digits, '-', '_', '.' and "
            f"blanks, of at most {_LONGEST_NAME} bytes: files are named after it"
        )


def parse(arguments: Sequence[str]) -> tuple[Sweep, str]:
    """Read a sweep from the command line: ``--config`` files and ``--setting value``.

    Args:
        arguments: Command line after ``psn-train sweep``.

    Returns:
        Sweep, and its configuration as YAML without the passwords of stores.

    Raises:
        SettingError: If a setting is unknown, or its value is not possible.
    """
    parser = ArgumentParser(prog="psn-train sweep", description=__doc__, exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile, help="YAML with the settings below")
    parser.add_argument(DASHBOARD, action="store_true", help="show the study in the browser while the sweep runs")
    parser.add_class_arguments(Sweep)
    check_configs(arguments)
    try:
        config = parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise parser_error(error, parser, arguments) from error
    config.pop("config")
    config.pop(DASHBOARD.removeprefix("--"))  # of this command, not of the study
    sweep = Sweep(**make_arguments(parser, config))
    config.storage = sweep.storage and without_password(sweep.storage)
    if "tracking.uri" in sweep.settings:
        config.settings = {**sweep.settings, "tracking.uri": without_password(str(sweep.settings["tracking.uri"]))}
    return sweep, parser.dump(config, skip_none=False)


def make_arguments(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    """Create the arguments of a class that has a space and settings.

    Class paths within those stay text: the objects are created by the parser of each run.

    Args:
        parser: Parser with the arguments of the class.
        config: Parsed configuration.
    """
    arguments = vars(parser.instantiate_classes(config))
    plain = yaml.safe_load(parser.dump(config, skip_none=False))
    space = {key: v if isinstance(v, Range) else plain["space"][key] for key, v in arguments["space"].items()}
    return {**arguments, "space": space, "settings": plain["settings"]}
