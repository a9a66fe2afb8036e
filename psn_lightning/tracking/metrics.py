"""Metrics on their way into a batch, under names that MLflow allows."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from lightning.pytorch.utilities import rank_zero_warn

from psn_lightning.tracking.mlflow_private import MAX_ENTITY_KEY_LENGTH

_MAX_ENTRIES = 1000
_MAX_SECONDS = 10.0  # delay of the MLflow UI

Entry = tuple[str, float, int, int]
"""Key, value, milliseconds since 1970, step."""


class MetricBuffer:
    """Collects metrics. Each has one value per step, and steps only grow."""

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}
        """Last value of each metric."""
        self._entries: list[Entry] = []
        self._last_step: dict[str, int] = {}
        self._emptied = time.monotonic()

    def add(self, metrics: Mapping[str, float], step: int | None) -> bool:
        """Add the metrics of a step, and return whether a batch is due: there are many, or the last one is old.

        Args:
            metrics: Values by name.
            step: Step of the values; None for the one after the last of each metric.
        """
        now = int(time.time() * 1000)
        for key, value in ((allowed_name(name), float(value)) for name, value in metrics.items() if name != "epoch"):
            last = self._last_step.get(key, -1)
            own = last + 1 if step is None else step
            if own > last:
                self._entries.append((key, value, now, own))
                self._last_step[key] = own
                self.latest[key] = value
        return len(self._entries) >= _MAX_ENTRIES or time.monotonic() - self._emptied > _MAX_SECONDS

    @contextmanager
    def batch(self) -> Iterator[list[Entry]]:
        """All entries, which are removed unless the block raises an exception."""
        yield self._entries
        self._entries = []
        self._emptied = time.monotonic()


@functools.cache
def allowed_name(name: str) -> str:
    """A metric's or parameter's name as MLflow allows it, with one warning if it is changed."""
    parts = re.sub(r"[^\w./: -]", "_", name).split("/")
    allowed = "/".join(part for part in parts if part not in ("", ".", ".."))[:MAX_ENTITY_KEY_LENGTH]
    if allowed != name:
        rank_zero_warn(f"MLflow does not allow the name {name!r}: logged as {allowed!r}")
    return allowed
