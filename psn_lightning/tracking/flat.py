"""Nested configurations as flat ones."""

from __future__ import annotations

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
