"""When a compiled kernel is worth its start."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_MANY = 2**14  # numbers from which compiled code gains where numba is loaded
_VERY_MANY = 2**20  # numbers from which it gains although numba has to be imported, which takes half a second


def is_worth_compiling(n: int) -> bool:
    """Return whether a kernel of :mod:`psn_lightning.kernels` is to compute what plain numpy computes as well.

    Both give the same result, so processes need not decide alike.

    Args:
        n: How many numbers there are.
    """
    if "numba" in sys.modules:
        return n > _MANY
    return n > _VERY_MANY and find_spec("numba") is not None
