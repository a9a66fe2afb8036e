"""What holds for the fan-in of every family, in layers from 1 × 1 to 4096 × 4096."""

import re
from dataclasses import asdict
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from psn_lightning.errors import UnreachableError
from psn_lightning.topology import (
    Bell,
    Bernoulli,
    Exponential,
    LayerBudget,
    Linear,
    Lognormal,
    MultiPeak,
    PowerLaw,
    Profile,
    Quadratic,
    Uniform,
)
from psn_lightning.topology.distributions import MAX_EXPONENT, MAX_SIGMA
from psn_lightning.topology.scaling import coefficient_of_variation, scale_clamped
from tests.topology.drawing import CORNER_BUDGETS, budgets, quick, roomy_budgets, seeds, sizes

flags = st.booleans()
profiles = st.one_of(
    st.builds(Linear, flags),
    st.builds(Quadratic, flags, st.floats(0, 1)),
    st.builds(Exponential, flags, st.floats(0, 500)),
    st.builds(Bell, flags, st.floats(0.01, 100)),
    st.builds(MultiPeak, st.integers(1, 24), st.floats(0, 3000)),
)


@quick
@given(profile=profiles, n=sizes())
def test_a_profile_is_finite_and_not_negative_and_its_inverse_is_the_mirror_or_the_complement(profile, n):
    x = np.linspace(0, 1, n)
    f = profile(x)
    assert f.shape == x.shape
    assert np.isfinite(f).all()
    assert (f >= 0).all()
    if isinstance(profile, MultiPeak):
        assert profile(1 - x) == pytest.approx(f, abs=1e-9)
        return
    plain, inverse = (type(profile)(**{**asdict(profile), "inverse": i}) for i in (False, True))
    assert inverse(x) == pytest.approx(1 - plain(x) if isinstance(profile, Bell) else plain(1 - x), abs=1e-12)
    if not isinstance(profile, Bell):
        assert (np.diff(plain(x)) <= 0).all()


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        (lambda p: Exponential(rate=p), st.floats(0, 8)),
        (lambda p: Bell(width=1 / p), st.floats(0.5, 20)),
        (lambda p: Quadratic(floor=1 - p), st.floats(0, 1)),
        (lambda p: MultiPeak(peaks=1, sharpness=p), st.floats(0, 1000)),
    ],
    ids=["Exponential rate", "Bell 1/width", "Quadratic 1-floor", "MultiPeak sharpness"],
)
@quick
@given(data=st.data(), n_out=sizes(low=2))
def test_ccv_answers_a_profiles_parameter_in_one_direction(family, parameters, data, n_out):
    small, large = sorted([data.draw(parameters), data.draw(parameters)])
    x = np.linspace(0, 1, n_out)
    low, high = (coefficient_of_variation(family(p)(x)) for p in (small, large))
    assert low <= high + 1e-9
    budget = LayerBudget(4096, n_out, 0.9)
    low, high = (coefficient_of_variation(family(p).fan_in(budget, np.random.default_rng(0))) for p in (small, large))
    assert low <= high + 0.01  # whole connections


# --- families


@quick
@given(family=st.one_of(profiles, st.just(Uniform()), st.just(Bernoulli())), budget=budgets(), seed=seeds)
@example(family=MultiPeak(), budget=CORNER_BUDGETS[0], seed=0)
@example(family=Linear(inverse=True), budget=CORNER_BUDGETS[1], seed=0)
@example(family=Bell(inverse=True), budget=CORNER_BUDGETS[2], seed=0)
@example(family=Bernoulli(), budget=CORNER_BUDGETS[3], seed=0)
def test_a_family_keeps_within_the_clamps_and_on_budget_as_far_as_they_let_it(family, budget, seed):
    fan_in = family.fan_in(budget, np.random.default_rng(seed))
    assert fan_in.shape == (budget.n_out,)
    assert fan_in.dtype == np.int64
    assert budget.min_fan_in <= fan_in.min()
    assert fan_in.max() <= budget.n_in
    assert np.array_equal(fan_in, family.fan_in(budget, np.random.default_rng(seed)))
    if budget.sparsity == 0:
        assert (fan_in == budget.n_in).all()
    if isinstance(family, Uniform):
        assert fan_in.sum() == budget.n_connections
    elif isinstance(family, Profile):
        f = family(np.linspace(0, 1, budget.n_out))
        assert (np.diff(fan_in[f.argsort(kind="stable")]) >= 0).all()  # more profile is never less fan-in
        f += np.finfo(np.float64).tiny  # a layer of one neuron may have f = 0
        wanted = np.clip(f / f.mean() * budget.mean_fan_in, budget.min_fan_in, budget.n_in)  # Eq. 6
        assert budget.sparsity == 0 or np.abs(fan_in - wanted).max() <= 0.5 + 1e-6
    elif budget.min_fan_in < fan_in.min() and fan_in.max() < budget.n_in:
        deviation = sqrt(budget.n_in * budget.n_out * budget.sparsity * (1 - budget.sparsity))
        assert abs(fan_in.sum() - budget.n_connections) <= 6 * deviation + 1


@quick
@given(budget=budgets(), data=st.data())
def test_uniform_alternates_evenly_any_stretch_of_neurons_has_its_share(budget, data):
    fan_in = Uniform().fan_in(budget, np.random.default_rng(0))
    first = data.draw(st.integers(0, budget.n_out - 1))
    last = data.draw(st.integers(first + 1, budget.n_out))
    share = budget.n_connections * (last - first) / budget.n_out
    assert abs(fan_in[first:last].sum() - share) < 1


@quick
@given(n_in=sizes(), min_share=st.floats(0, 1), sparsity=st.floats(0, 1, exclude_max=True))
def test_a_budget_is_refused_exactly_where_the_minimum_does_not_fit(n_in, min_share, sparsity):
    min_fan_in = max(1, round(min_share * n_in))
    assume(abs(n_in * (1 - sparsity) - min_fan_in) > 1e-6)
    if n_in * (1 - sparsity) > min_fan_in:
        assert LayerBudget(n_in, 7, sparsity, min_fan_in).sparsity <= LayerBudget(n_in, 7, 0.0, min_fan_in).ceiling
    else:
        with pytest.raises(UnreachableError, match="min_fan_in"):
            LayerBudget(n_in, 7, sparsity, min_fan_in)


@quick
@given(budget=budgets(widest=300), seed=seeds, spread_of_logs=st.floats(0, 20), levels=st.integers(1, 300))
def test_no_common_scale_comes_nearer_to_the_budget_than_the_one_found(budget, seed, spread_of_logs, levels):
    logs = spread_of_logs * np.random.default_rng(seed).integers(levels, size=budget.n_out) / levels
    missed = abs(int(scale_clamped(logs, budget).sum()) - budget.n_connections)
    for scale in np.linspace(-logs.max() - 1, np.log(budget.n_in) + 1, 200):
        raw = np.rint(np.exp(np.minimum(logs + scale, np.log(budget.n_in))))
        assert missed <= abs(int(np.clip(raw, budget.min_fan_in, budget.n_in).sum()) - budget.n_connections)


def shaped(family, budget, seed):
    """Shape parameter → fan-in, and the largest parameter, as the family itself defines them."""
    if family is Lognormal:
        normal = np.sort(np.random.default_rng(seed).standard_normal(budget.n_out))[::-1]
        return lambda sigma: scale_clamped(sigma * normal, budget), MAX_SIGMA
    ranks = np.log1p(np.arange(budget.n_out, dtype=np.float64))
    return lambda gamma: scale_clamped(-gamma * ranks, budget), MAX_EXPONENT


@pytest.mark.parametrize("family", [Lognormal, PowerLaw])
@quick
@given(budget=budgets(), seed=seeds, shares=st.lists(st.floats(0, 1), min_size=2, max_size=6))
@example(budget=CORNER_BUDGETS[3], seed=0, shares=[0.0, 0.001, 0.1, 0.5, 1.0])
def test_ccv_grows_with_the_shape_parameter(family, budget, seed, shares):
    at, largest = shaped(family, budget, seed)
    ccvs = [coefficient_of_variation(at(largest * share)) for share in sorted(shares)]
    assert all(low <= high + 1e-9 for low, high in pairwise(ccvs))


@pytest.mark.parametrize("family", [Lognormal, PowerLaw])
@settings(max_examples=12, deadline=None)
@example(budget=LayerBudget(25, 122, 0.867), seed=0, share=0.05, less=0.0)
@given(budget=roomy_budgets(), seed=seeds, share=st.floats(0, 1), less=st.floats(0, 1))
def test_a_target_ccv_is_met_and_so_is_the_budget(family, budget, seed, share, less):
    at, largest = shaped(family, budget, seed)
    part = budget.n_connections % budget.n_out / budget.n_out
    lowest = sqrt(part * (1 - part)) * budget.n_out / budget.n_connections  # of whole numbers with this mean
    highest = coefficient_of_variation(at(largest))
    ccvs = []
    for target in (less * share * highest, share * highest):
        found = family(target).fan_in(budget, np.random.default_rng(seed))
        assert abs(found.sum() - budget.n_connections) <= 1
        assert (np.diff(found) <= 0).all()
        ccvs.append(coefficient_of_variation(found))
        assert ccvs[-1] == pytest.approx(max(lowest, target), abs=0.03)
    assert ccvs[0] <= ccvs[1] + 1e-9


@pytest.mark.parametrize("family", [Lognormal, PowerLaw])
@settings(max_examples=12, deadline=None)
@given(budget=budgets(widest=100), seed=seeds)
@example(budget=CORNER_BUDGETS[0], seed=0)
@example(budget=CORNER_BUDGETS[1], seed=0)
@example(budget=CORNER_BUDGETS[2], seed=0)
def test_a_ccv_out_of_reach_says_what_can_be_had_and_that_can(family, budget, seed):
    with pytest.raises(UnreachableError, match="ccv 100") as caught:
        family(100.0).fan_in(budget, np.random.default_rng(seed))
    reachable = float(re.search(r"value is ([\d.]+)", str(caught.value))[1])
    family(max(0.0, reachable - 0.001)).fan_in(budget, np.random.default_rng(seed))
    with pytest.raises(UnreachableError):
        family(reachable + 0.001).fan_in(budget, np.random.default_rng(seed))
