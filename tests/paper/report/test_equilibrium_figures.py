"""Table 4 as a constant share of the two-level bound."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning import fan_in_ccv
from psn_lightning.paper.report.equilibrium_figures import share_of_bound
from psn_lightning.topology.connectivity import Connectivity
from psn_lightning.topology.equilibrium import PAPER_TABLE_4, two_level_bound


@given(st.integers(1, 30), st.integers(1, 40), st.integers(2, 60))
def test_filled_neurons_beside_even_ones_have_the_root_of_one_minus_q_of_the_bound(filled, fan_in, n_in):
    fan_in = min(fan_in, n_in - 1)
    counts = np.array([n_in] * filled + [fan_in] * 20)
    indices = np.concatenate([np.arange(count) for count in counts])
    layer = Connectivity.from_fan_in(n_in, counts, indices)
    density = counts.mean() / n_in
    q = fan_in / n_in / density
    assert fan_in_ccv(layer) == pytest.approx(np.sqrt(1 - q) * two_level_bound(1 - density))


@pytest.mark.parametrize("data", PAPER_TABLE_4)
def test_one_share_gives_a_row_of_table_4(data):
    bounds, share = share_of_bound(data)
    errors = [PAPER_TABLE_4[data][sparsity] / (share * bound) - 1 for sparsity, bound in bounds.items()]
    assert 0.7 < share < 0.9
    assert np.sqrt(np.mean(np.square(errors))) < 0.02
