"""Values of a sweep's settings: as Optuna draws them, and as a configuration takes them."""

from __future__ import annotations

import copy
import difflib
import itertools
import json
from collections.abc import Mapping
from typing import Any

import optuna

from psn_lightning.checkpoints.flat import short_names
from psn_lightning.errors import SettingError
from psn_lightning.sweeps.sweep import Group, Range, Space

Scalar = int | float | str | bool | None


def suggest_settings(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Let Optuna choose a value for each setting."""
    return decode_settings({key: _suggest(trial, key, values) for key, values in space.items()}, space)


def _suggest(trial: optuna.Trial, key: str, values: Range | Group | list[Any]) -> Scalar:
    if not isinstance(values, Range):
        return trial.suggest_categorical(key, [_encode(value) for value in values])
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(key, values.low, values.high, log=values.log)
    return trial.suggest_float(key, values.low, values.high, log=values.log)


def combinations(space: Space) -> list[dict[str, Scalar]]:
    """Combinations of a space without ranges, as Optuna's parameters; the last setting changes fastest."""
    lists = [[_encode(value) for value in values] for values in space.values() if not isinstance(values, Range)]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def _encode(value: Any) -> Scalar:
    """Category of Optuna for a value: a scalar; mappings and lists become JSON."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def _decode(value: Scalar) -> Any:
    return json.loads(value) if isinstance(value, str) and value[:1] in {"{", "["} else value


def decode_settings(params: Mapping[str, Scalar], space: Space) -> dict[str, Any]:
    """Convert Optuna's parameters to settings; a name in a group becomes the settings that it stands for.

    Among these, the text ``{KEY}`` stands for the value of the parameter KEY.
    """
    values = {key: _decode(value) for key, value in params.items()}
    settings: dict[str, Any] = {}
    for key, value in values.items():
        group = space.get(key)
        settings |= _fill_in(group[str(value)], values) if isinstance(group, dict) else {key: value}
    return settings


def _fill_in(node: Any, values: Mapping[str, Any]) -> Any:
    """Copy settings with ``{KEY}`` replaced by the value of the parameter KEY."""
    if isinstance(node, dict):
        return {key: _fill_in(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill_in(value, values) for value in node]
    is_reference = isinstance(node, str) and node[:1] == "{" and node[-1:] == "}"
    return values.get(node[1:-1], node) if is_reference else node


def describe_params(params: Mapping[str, Scalar]) -> str:
    """Describe Optuna's parameters in a few words: ``offset -0.4, sparsity 0.9``."""
    names = short_names(params)
    return ", ".join(f"{names[key]} {_format_value(_decode(value))}" for key, value in params.items())


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if not isinstance(value, dict) or "class_path" not in value:
        return str(value)
    arguments = ", ".join(f"{name} {_format_value(own)}" for name, own in (value.get("init_args") or {}).items())
    return f"{value['class_path']}({arguments})" if arguments else str(value["class_path"])


def apply_settings(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a configuration and change some of its values.

    Args:
        config: Complete configuration, nested as ``--print_config`` shows it.
        settings: Values by setting: ``{"trainer.callbacks.0.init_args.period": 50, …}``.

    Raises:
        SettingError: If the configuration does not have a setting.
    """
    changed = copy.deepcopy(dict(config))
    for key, value in settings.items():
        node: Any = changed
        *path, last = key.split(".")
        for part in path:
            node = node[_find_index(node, part, key)]
        node[_find_index(node, last, key)] = value
    return changed


def _find_index(node: Any, part: str, key: str) -> str | int:
    """Index of a part of a setting's name in a list or mapping."""
    if isinstance(node, list):
        if part.isdecimal() and int(part) < len(node):
            return int(part)
        raise SettingError(f"{key}: the list has {len(node)} entries, {part!r} is not the number of one")
    known = list(node) if isinstance(node, dict) else []
    if part not in known:
        nearest = difflib.get_close_matches(part, known, 1)
        hint = f"; the nearest is {nearest[0]!r}" if nearest else f"; there are {', '.join(map(str, known)) or 'none'}"
        raise SettingError(f"{key}: the configuration has no setting {part!r} there{hint}")
    return part
