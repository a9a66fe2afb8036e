import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.errors import SettingError
from psn_lightning.topology import (
    Bernoulli,
    Exponential,
    LayerBudget,
    Lognormal,
    LognormalAtEquilibrium,
    PowerLaw,
    Shuffled,
    Uniform,
)
from psn_lightning.topology.equilibrium import MEASURED, law

BUDGET = LayerBudget(784, 1024, 0.9)


def ccv(fan_in):
    return fan_in.std() / fan_in.mean()


@pytest.mark.parametrize("seed", [42, 123])
@pytest.mark.parametrize("target", [0.5, 1.0, 1.5, 2.0, 2.5])
def test_lognormal_realises_its_ccv_after_clamping(target, seed):
    fan_in = Lognormal(target).fan_in(BUDGET, np.random.default_rng(seed))
    assert ccv(fan_in) == pytest.approx(target, abs=0.01)
    assert fan_in.mean() == pytest.approx(78.4, abs=0.05)
    assert (np.diff(fan_in) <= 0).all()


@pytest.mark.parametrize("offset", [-0.5, 0.0, 0.2])
def test_lognormal_at_an_offset_from_the_equilibrium(offset):
    fan_in = LognormalAtEquilibrium("fashion", offset).fan_in(BUDGET, np.random.default_rng(42))
    assert ccv(fan_in) == pytest.approx(2.52 + offset, abs=0.01)
    assert (fan_in == Lognormal(2.52 + offset).fan_in(BUDGET, np.random.default_rng(42))).all()


def test_what_is_not_tabulated_is_said():
    with pytest.raises(SettingError, match=r"sparsity 0\.85 of fashion"):
        LognormalAtEquilibrium("fashion").fan_in(LayerBudget(784, 1024, 0.85), np.random.default_rng(0))


@pytest.mark.parametrize(("sparsity", "expected"), [(0.9, MEASURED["fashion"][0.9]), (0.85, law(0.85))])
def test_ours_is_measured_or_by_law(sparsity, expected):
    layer = LayerBudget(784, 1024, sparsity)
    fan_in = LognormalAtEquilibrium("fashion", table="measured").fan_in(layer, np.random.default_rng(0))
    assert ccv(fan_in) == pytest.approx(expected, abs=0.01)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 1.5), st.floats(0.8, 0.95), st.integers(200, 1200))
def test_power_law_realises_its_ccv(target, sparsity, n_out):
    fan_in = PowerLaw(target).fan_in(LayerBudget(784, n_out, sparsity), np.random.default_rng(0))
    assert ccv(fan_in) == pytest.approx(target, abs=0.02)
    assert (np.diff(fan_in) <= 0).all()


def test_reachable_ccv_is_about_the_papers():
    with pytest.raises(SettingError, match=r"ccv 9 of Lognormal") as caught:
        Lognormal(9.0).fan_in(BUDGET, np.random.default_rng(42))
    assert float(str(caught.value).split("value is ")[1].split()[0]) == pytest.approx(2.8, abs=0.05)


@pytest.mark.parametrize("target", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("family", [Lognormal, PowerLaw])
def test_a_senseless_ccv_is_refused(family, target):
    with pytest.raises(SettingError, match=r"ccv (-1|nan|inf)"):
        family(target).fan_in(BUDGET, np.random.default_rng(0))


@given(st.integers(1, 100), st.integers(1, 100), st.floats(0, 0.99))
def test_uniform_is_equal_and_exactly_on_budget(n_in, n_out, sparsity):
    sparsity = min(sparsity, 1 - 1 / n_in)
    budget = LayerBudget(n_in, n_out, sparsity)
    fan_in = Uniform().fan_in(budget, np.random.default_rng(0))
    assert fan_in.sum() == budget.n_connections
    assert fan_in.max() - fan_in.min() <= 1


def test_bernoulli_is_binomial():
    fan_in = np.concatenate([Bernoulli().fan_in(BUDGET, np.random.default_rng(seed)) for seed in range(20)])
    assert fan_in.mean() == pytest.approx(78.4, abs=0.3)
    assert fan_in.var() == pytest.approx(784 * 0.1 * 0.9, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([Lognormal(1.0), PowerLaw(1.0), Exponential()]), st.integers(0, 2**32 - 1))
def test_shuffled_has_the_same_fan_in_in_another_order(family, seed):
    plain = family.fan_in(BUDGET, np.random.default_rng(seed))
    mixed = Shuffled(family).fan_in(BUDGET, np.random.default_rng(seed))
    assert np.array_equal(np.sort(mixed), np.sort(plain))
    hubs = np.argsort(mixed)[-BUDGET.n_out // 4 :]
    assert hubs.mean() == pytest.approx(BUDGET.n_out / 2, rel=0.2)  # no longer first
