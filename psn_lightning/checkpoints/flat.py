"""Nested configurations as flat ones, and the names of their settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}, "c": [{"d": 2}]}`` → ``{"a.b": 1, "c.0.d": 2}``; lists of scalars stay whole."""
    if isinstance(config, dict) and config:
        items = ((str(key), value) for key, value in config.items())
    elif isinstance(config, list) and any(isinstance(value, dict | list) for value in config):
        items = ((str(index), value) for index, value in enumerate(config))
    else:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """The last parts of the settings' names, as many as tell them apart."""
    names = {key: key.replace(".init_args", "").replace(".class_path", "") for key in keys}
    for key, name in names.items():
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            short = ".".join(parts[-count:])
            if sum(other == short or other.endswith(f".{short}") for other in names.values()) == 1:
                names[key] = short
                break
    return names
