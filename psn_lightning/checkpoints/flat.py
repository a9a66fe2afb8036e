"""Nested configurations as flat dicts, and short names of their settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten a nested configuration: ``{"a": {"b": 1}, "c": [{"d": 2}]}`` becomes ``{"a.b": 1, "c.0.d": 2}``.

    Args:
        config: Nested dicts and lists; lists of scalars are values.
        prefix: Prefix of all keys.

    Returns:
        Values by dotted key.
    """
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
    """Shorten dotted keys to their last parts, as many as make them unique and at least one that is not a number.

    Args:
        keys: Dotted keys, see :func:`flatten`.

    Returns:
        Short names by key.
    """
    names = {key: key.replace(".init_args", "").removesuffix(".class_path") for key in keys}
    for key, name in names.items():
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            short = ".".join(parts[-count:])
            others = sum(other == short or other.endswith(f".{short}") for other in names.values())
            if others == 1 and not short.isdecimal():
                names[key] = short
                break
    return names
