"""Which connections stay."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def places_in(before, after):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Where ``before`` has each number of ``after``, or -1; both ascend."""
    places = np.full(len(after), -1, dtype=np.int64)
    i = 0
    for j, wanted in enumerate(after):
        while i < len(before) and before[i] < wanted:
            i += 1
        if i < len(before) and before[i] == wanted:
            places[j] = i
    return places
