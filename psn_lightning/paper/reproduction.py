"""Reproductions: tables and figures of the paper as grids, one for each data set."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentError
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

from psn_lightning.commands.config_files import check_configs
from psn_lightning.commands.config_type import ConfigFile
from psn_lightning.commands.messages import parser_error
from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.paper.overlays import Overlays, settings_of
from psn_lightning.paper.plan import plan_file, reproductions
from psn_lightning.sweeps.base_config import configuration
from psn_lightning.sweeps.command import plan_of
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.space import combinations
from psn_lightning.sweeps.sweep import Range, Space, Sweep, make_arguments

_SEED = "seed_everything"
_DATA = "{data}"  # stands for the data set's short name within a text of the space


@dataclass(frozen=True)
class Reproduction:
    """A table or figure of the paper.

    Args:
        title: Table or figure, and what it shows.
        data: Short name of each data set → the configurations of ``psn-train fit`` that its runs start from.
        space: Settings in which cells differ, see :class:`~psn_lightning.sweeps.sweep.Sweep`; every combination is a
            cell. A name in a group may also stand for a list of configuration files, relative to the folder of
            reproductions, and settings: ``{rigl: [../rules/rigl.yaml, {model.topology: Bernoulli}]}``. ``{data}``
            within a text becomes the data set's short name.
        seeds: Seeds of each cell; by the data set's short name where they differ.
        settings: Settings of all runs that replace those of the base. Their callbacks follow those of a configuration
            file in the space.
        left_out: Combinations that are no cells: setting → values, all of which have to agree.

    Raises:
        SettingError: If there is nothing to run.
    """

    title: str
    data: dict[str, list[ConfigFile]]
    space: dict[str, Range | dict[str, dict[str, Any] | Overlays] | list[Any]]
    seeds: list[int] | dict[str, list[int]]
    settings: dict[str, Any] = field(default_factory=dict)
    left_out: list[dict[str, list[Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for setting in ("data", "space", "seeds"):
            if not getattr(self, setting):
                raise SettingError(f"{setting} {getattr(self, setting)} is empty: nothing would be run")
        if isinstance(self.seeds, dict) and set(self.seeds) != set(self.data):
            raise SettingError(f"seeds are given for {', '.join(self.seeds)}, but the data are {', '.join(self.data)}")
        for key in (key for combination in self.left_out for key in combination):
            if key not in self.space:
                raise SettingError(f"left_out {key}: the space has {', '.join(self.space)}")

    def has(self, cell: Mapping[str, Any]) -> bool:
        """Return whether a combination of the space is a cell."""
        return not any(all(cell[key] in values for key, values in one.items()) for one in self.left_out)

    def seeds_of(self, data: str) -> list[int]:
        """Seeds of each cell of a data set."""
        return self.seeds[data] if isinstance(self.seeds, dict) else self.seeds


def names() -> list[str]:
    """Names of all reproductions."""
    return sorted(path.stem for path in reproductions().glob("*.yaml") if path != plan_file())


def load(name: str) -> Reproduction:
    """Read a reproduction.

    Args:
        name: Name of the reproduction.

    Raises:
        SettingError: If no reproduction has that name, or its file does not describe one.
    """
    if name not in names():
        raise SettingError(f"reproduction {name!r} is not one of {', '.join(names())}")
    path = reproductions() / f"{name}.yaml"
    return _parse(path, path.absolute(), path.stat().st_mtime_ns)


@cache
def _parse(path: Path, _absolute: Path, _modified: int) -> Reproduction:
    """Parse the file of a reproduction; once as long as it is the same, because a report needs some of them 50 times.

    Raises:
        SettingError: If the file does not describe a reproduction.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_class_arguments(Reproduction)
    arguments = ["--config", str(path)]
    check_configs(arguments)
    try:
        config = parser.parse_args(arguments)
        config.pop("config")
        return Reproduction(**make_arguments(parser, config))
    except (ArgumentError, ValueError) as error:
        cause = SettingError.inside(error)
        if cause is None and isinstance(error, ArgumentError):
            cause = parser_error(error, parser, arguments)
        raise SettingError(f"{path}: {cause or in_one_line(error)}") from error


def plan_for(name: str, reproduction: Reproduction, data: str, suffix: str = "") -> Plan:
    """Plan of the study of one data set: a ticket for every cell and seed.

    Args:
        name: Name of the reproduction.
        reproduction: Reproduction to run.
        data: Short name of one of its data sets.
        suffix: Suffix of the study's name.
    """
    sweep = Sweep(
        name=f"{name}-{data}{suffix}",
        base=reproduction.data[data],
        space=space_of(reproduction, data),
        settings=_fill_in(reproduction.settings, data),
        sampler="grid",
        objective="test/accuracy",
    )
    return plan_of(sweep, configuration(sweep))


def cells_of(reproduction: Reproduction, data: str) -> dict[int, tuple[dict[str, Any], int]]:
    """Cell and seed by ticket of a data set's study; combinations that are left out have a ticket, and are not here."""
    cells: list[dict[str, Any]] = [dict(cell) for cell in combinations(space_of(reproduction, data))]
    return {ticket: (cell, cell.pop(_SEED)) for ticket, cell in enumerate(cells) if reproduction.has(cell)}


def space_of(reproduction: Reproduction, data: str) -> Space:
    """Space of a data set's study, in which a name in a group stands for settings."""
    space = {
        key: {name: _read_member(member, reproduction) for name, member in values.items()}
        if isinstance(values, dict)
        else values
        for key, values in reproduction.space.items()
    }
    return {**_fill_in(space, data), _SEED: list(reproduction.seeds_of(data))}


def _read_member(member: dict[str, Any] | Overlays, reproduction: Reproduction) -> dict[str, Any]:
    return settings_of(member, reproduction.settings, reproductions()) if isinstance(member, list) else member


def epochs_of(reproduction: Reproduction, data: str) -> int:
    """Number of epochs of each run on a data set.

    Raises:
        SettingError: If a base is not a configuration, or no number of epochs is given.
    """
    key = "trainer.max_epochs"
    paths = [str(base.absolute) for base in reproduction.data[data]]
    check_configs(f"--config={path}" for path in paths)
    trainers = [yaml.safe_load(Path(path).read_text()).get("trainer", {}) for path in reversed(paths)]  # later ones win
    given = [reproduction.settings.get(key), *(trainer.get("max_epochs") for trainer in trainers)]
    epochs = next((value for value in given if isinstance(value, int)), None)
    if epochs is None:
        raise SettingError(f"{key} is not given as a number, in settings or {', '.join(paths)}")
    return epochs


def select_tickets(plan: Plan, wanted: Collection[int]) -> Plan:
    """Restrict a plan to some of its tickets."""
    left_out = frozenset(range(plan.tickets.n)) - frozenset(wanted)
    return dataclasses.replace(plan, tickets=dataclasses.replace(plan.tickets, left_out=left_out))


def _fill_in(value: Any, data: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill_in(entry, data) for key, entry in value.items()}
    if isinstance(value, list):
        return [_fill_in(entry, data) for entry in value]
    return value.replace(_DATA, data) if isinstance(value, str) else value
