"""Matching of lists of connections, against Python lists."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.kernels.connections import locate_positions

positions = st.lists(st.integers(0, 60), unique=True).map(sorted)


@settings(deadline=None)  # the first call compiles
@given(positions, positions)
def test_places(before, after):
    places = locate_positions(np.array(before, np.int64), np.array(after, np.int64))
    assert places.tolist() == [before.index(x) if x in before else len(before) for x in after]
