"""What a reproduction is: a table or figure of the paper as grids, one for each data set."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentError
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]
from jsonargparse.typing import Path_fr

from psn_lightning.commands.messages import check_configs, explained
from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.sweeps.command import configuration, plan_of
from psn_lightning.sweeps.plan import Plan
from psn_lightning.sweeps.space import combinations
from psn_lightning.sweeps.sweep import Space, Sweep

FOLDER = Path("conf") / "reproduce"
"""Where the reproductions are described."""

_SEED = "seed_everything"
_DATA = "{data}"  # in a text of the space: the data set's short name


@dataclass(frozen=True)
class Reproduction:
    """A table or figure of the paper.

    Args:
        title: Which one, and what it shows.
        data: Short name of each data set → the configurations of ``psn-train fit`` that its runs start from.
        space: What its cells differ in, see :class:`~psn_lightning.sweeps.sweep.Sweep`; every combination is a
            cell. ``{data}`` within a text becomes the data set's short name.
        seeds: Seeds of each cell.
        settings: What all runs have instead of the base's.

    Raises:
        SettingError: If there is nothing to run.
    """

    title: str
    data: dict[str, list[Path_fr]]
    space: Space
    seeds: list[int]
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for setting in ("data", "space", "seeds"):
            if not getattr(self, setting):
                raise SettingError(f"{setting} {getattr(self, setting)} is empty: nothing would be run")


def names() -> list[str]:
    """All reproductions.

    Raises:
        SettingError: If the folder that describes them is not here.
    """
    if not FOLDER.is_dir():
        raise SettingError(f"{FOLDER} is not here: psn-train reproduce works in a checkout of psn_lightning")
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Reproduction:
    """Read a reproduction.

    Raises:
        SettingError: If there is none of that name, or its file does not describe one.
    """
    if name not in names():
        raise SettingError(f"reproduction {name!r} is not one of {', '.join(names())}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_class_arguments(Reproduction)
    path = FOLDER / f"{name}.yaml"
    arguments = ["--config", str(path)]
    check_configs(arguments)
    try:
        config = parser.parse_args(arguments)
        config.pop("config")
        return Reproduction(**vars(parser.instantiate_classes(config)))
    except (ArgumentError, ValueError) as error:
        told = SettingError.inside(error)
        if told is None and isinstance(error, ArgumentError):
            told = explained(error, parser)
        raise SettingError(f"{path}: {told or in_one_line(error)}") from error


def plan_for(name: str, reproduction: Reproduction, data: str, suffix: str = "") -> Plan:
    """The study of one data set: a ticket for every cell and seed.

    Args:
        name: Of the reproduction.
        reproduction: The same.
        data: One of its data sets.
        suffix: Of the study's name.
    """
    sweep = Sweep(
        name=f"{name}-{data}{suffix}",
        base=reproduction.data[data],
        space=_space(reproduction, data),
        settings=_filled(reproduction.settings, data),
        sampler="grid",
        objective="test/accuracy",
    )
    return plan_of(sweep, configuration(sweep))


def cells_of(reproduction: Reproduction, data: str) -> list[tuple[dict[str, Any], int]]:
    """Cell and seed of every ticket of one data set's study."""
    cells: list[dict[str, Any]] = [dict(cell) for cell in combinations(_space(reproduction, data))]
    return [(cell, cell.pop(_SEED)) for cell in cells]


def _space(reproduction: Reproduction, data: str) -> Space:
    return {**_filled(reproduction.space, data), _SEED: list(reproduction.seeds)}


def epochs_of(reproduction: Reproduction, data: str) -> int:
    """Epochs of each run on one data set.

    Raises:
        SettingError: If a base is no configuration, or nothing says how many.
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


def only(plan: Plan, wanted: Collection[int]) -> Plan:
    """The same study with some of its tickets alone."""
    left_out = frozenset(range(plan.tickets.n)) - frozenset(wanted)
    return dataclasses.replace(plan, tickets=dataclasses.replace(plan.tickets, left_out=left_out))


def _filled(value: Any, data: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(entry, data) for key, entry in value.items()}
    if isinstance(value, list):
        return [_filled(entry, data) for entry in value]
    return value.replace(_DATA, data) if isinstance(value, str) else value
