import pytest

from psn_lightning.errors import SettingError
from psn_lightning.topology.equilibrium import (
    PAPER_TABLE_4,
    measured_equilibrium,
    paper_equilibrium,
    two_level_bound,
)


@pytest.mark.parametrize(("sparsity", "bound"), [(0.8, 2.0), (0.9, 3.0), (0.95, 4.36), (0.98, 7.0)])
def test_two_level_bound(sparsity, bound):
    assert two_level_bound(sparsity) == pytest.approx(bound, abs=0.005)


def test_the_papers_table_stays_below_the_bound():
    assert all(ccv < two_level_bound(s) for row in PAPER_TABLE_4.values() for s, ccv in row.items())


def test_look_up_of_the_paper():
    assert paper_equilibrium("fashion", 0.9) == 2.52
    assert paper_equilibrium("forest", 0.1 * 9) == 2.10  # float noise in the key does not matter


def test_nothing_is_interpolated():
    with pytest.raises(SettingError, match=r"no equilibrium CCV for fashion at sparsity 0\.85 in the paper's Table 4"):
        paper_equilibrium("fashion", 0.85)


def test_no_measurement_says_so_and_offers_the_papers_value():
    with pytest.raises(SettingError, match=r"in our measurements .*the paper claims 2\.52"):
        measured_equilibrium("fashion", 0.9)
    with pytest.raises(SettingError, match="no equilibrium CCV for cifar"):
        measured_equilibrium("cifar", 0.9)
