import numpy as np
import pytest

from psn_lightning.errors import SettingError
from psn_lightning.topology import Diagonals, LayerBudget


@pytest.mark.parametrize(("n_in", "n_out", "k"), [(30, 20, 6), (20, 30, 5), (784, 98, 78)])
@pytest.mark.parametrize("offsets", ["random", "even"])
def test_a_mask_is_a_sum_of_wrapped_diagonals(n_in, n_out, k, offsets):
    mask = Diagonals(offsets).connect(LayerBudget(n_in, n_out, 1 - k / n_in), np.random.default_rng(0)).mask()
    first = np.flatnonzero(mask[0])
    assert len(first) == k
    expected = np.zeros_like(mask)
    for j in range(n_out):
        for offset in first:
            expected[j, (j + offset) % n_in] = True
    assert np.array_equal(mask, expected)
    if offsets == "even":
        assert np.ptp(np.diff(np.append(first, first[0] + n_in))) <= 1


def test_what_is_left_of_a_diagonal_is_spread_over_the_neurons():
    connectivity = Diagonals().connect(LayerBudget(20, 40, 0.875), np.random.default_rng(0))
    assert connectivity.fan_in.tolist() == [2, 3] * 20
    offset = (connectivity.indices - connectivity.rows()) % 20
    assert sorted(np.unique(offset, return_counts=True)[1].tolist()) == [20, 40, 40]
    assert np.array_equal(Diagonals().connect(LayerBudget(20, 40, 0.9), np.random.default_rng(0)).fan_out, [4] * 20)


def test_offsets_are_those_known():
    with pytest.raises(SettingError, match="offsets 'spread'"):
        Diagonals("spread")
