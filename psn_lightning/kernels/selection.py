"""Compiled selection of the highest scores by a histogram of their bits."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import carray, int64, uint32, uint64
from numpy.typing import NDArray

from psn_lightning.kernels.pool import cast, compile_kernel, run_kernel

_DIGIT = 11  # bits of a number that one histogram counts
_BITS: dict[int, Any] = {4: uint32, 8: uint64}


def select_highest(scores: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Select the highest scores; ties go to the lower place, NaN counts as the lowest score.

    Args:
        scores: Scores, float32 or float64, contiguous, shape ``(n,)``.
        count: Number of scores to select, from 1 to ``n``.

    Returns:
        Places of the selected scores, ascending, shape ``(count,)``.

    Raises:
        ValueError: If there are fewer scores.
    """
    if not 0 < count <= len(scores):
        raise ValueError(f"cannot select {count} of {len(scores)} scores")
    keys, members = np.empty((2, len(scores)), f"u{scores.itemsize}")
    counts, chosen = np.empty(2**_DIGIT, np.int64), np.empty(count, np.int64)
    addresses = [array.ctypes.data for array in (scores, keys, members, counts, chosen)]
    run_kernel(_compile_selection(scores.itemsize), 1, len(scores), count, *addresses)
    return chosen


@functools.cache
def _compile_selection(itemsize: int) -> int:
    """Compile the selection for numbers of a size in bytes."""
    kind, n_bits = _BITS[itemsize], 8 * itemsize
    sign, magnitudes = kind(2 ** (n_bits - 1)), kind(2 ** (n_bits - 1) - 1)
    infinity = kind(np.array(np.inf, f"f{itemsize}").view(f"u{itemsize}"))

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n, count = job[3], job[4]
        bits, keys = carray(cast(job[5], kind), (n,)), carray(cast(job[6], kind), (n,))
        members, counts = carray(cast(job[7], kind), (n,)), carray(cast(job[8], int64), (1 << _DIGIT,))
        chosen = carray(cast(job[9], int64), (count,))
        for k in range(n):  # numbers in the order of the scores; -0 is 0, and NaN is minus infinity
            magnitude = kind(bits[k] & magnitudes)
            is_lowest = magnitude > infinity
            magnitude = infinity if is_lowest else magnitude
            keys[k] = kind(sign - magnitude) if is_lowest or bits[k] & sign else kind(sign + magnitude)
        # Digit by digit from the highest: of the scores that agree in the digits before, those of one digit stay.
        source, n_members, missing = keys, n, count
        threshold, shift = kind(0), n_bits
        while shift > 0:
            low = max(shift - _DIGIT, 0)
            digits = kind((1 << (shift - low)) - 1)
            counts[:] = 0
            for k in range(n_members):
                counts[int64((source[k] >> kind(low)) & digits)] += 1
            digit = int64(digits)
            while counts[digit] < missing:
                missing -= counts[digit]
                digit -= 1
            threshold |= kind(kind(digit) << kind(low))
            kept = 0
            for k in range(n_members):
                key = source[k]
                members[kept] = key
                kept += int64((key >> kind(low)) & digits) == digit
            source, n_members, shift = members, kept, low
        place, k = 0, 0
        while place < count:  # as many of those at the threshold as are missing, the first ones
            key = keys[k]
            takes = key > threshold or (key == threshold and missing > 0)
            missing -= key == threshold
            chosen[place] = k
            place += takes
            k += 1

    return compile_kernel(kernel)
