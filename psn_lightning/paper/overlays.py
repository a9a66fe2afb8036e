"""Members of a group that are made of configuration files, as ``psn-train fit --config`` takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from psn_lightning.commands.config_files import read_config

CALLBACKS = "trainer.callbacks"
"""Setting with the callbacks of a run."""

Overlays = list[str | dict[str, Any]]
"""Configuration files, by their paths, and settings; later ones win."""


def settings_of(overlays: Sequence[str | Mapping[str, Any]], common: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Merge configuration files and settings.

    The callbacks of a file replace those of an earlier one, as on the command line; those of all runs follow them.

    Args:
        overlays: Paths of files, and settings such as ``{"trainer.callbacks.0.init_args.sparsity": 0.9}``.
        common: Settings of all runs.
        folder: Folder that paths are relative to.

    Returns:
        Settings by dotted name, in the order in which they are to be applied.

    Raises:
        SettingError: If a file is missing or is not a configuration.
    """
    merged: dict[str, Any] = {}
    for overlay in overlays:
        given = dict(_flatten(read_config(folder / overlay))) if isinstance(overlay, str) else overlay
        merged = {key: value for key, value in merged.items() if key not in given} | dict(given)
    if CALLBACKS in merged:
        merged[CALLBACKS] = [*merged[CALLBACKS], *common.get(CALLBACKS, [])]
    return merged


def _flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """List the settings of a configuration by dotted name; an object, which has a class path, is one value."""
    for key, value in node.items():
        if isinstance(value, dict) and "class_path" not in value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
