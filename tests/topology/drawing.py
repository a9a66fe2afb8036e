"""Layers of all sizes, as the property tests draw them."""

import numpy as np
from hypothesis import example, settings
from hypothesis import strategies as st

from psn_lightning.topology import Connectivity, LayerBudget

quick = settings(max_examples=100, deadline=None)
seeds = st.integers(0, 2**32 - 1)
CORNERS = [(1, 1), (1, 4096), (4096, 1), (4096, 4096)]


def sizes(low=1, high=4096):
    """Log-uniform, so that most layers are small."""
    exponents = st.integers(round(64 * np.log2(low)), round(64 * np.log2(high)))
    return exponents.map(lambda exponent: min(max(round(2 ** (exponent / 64)), low), high))


def from_keys(n_in, n_out, keys):
    """By ascending positions in the flattened mask."""
    return Connectivity.from_fan_in(n_in, np.bincount(keys // n_in, minlength=n_out), keys % n_in)


def random_connectivity(n_in, n_out, n=16_777, seed=0, skew=1.0):
    """At most ``n`` connections; with a large skew the first neurons have nearly all of them."""
    rng = np.random.default_rng(seed)
    neurons = np.minimum((n_out * rng.random(n) ** skew).astype(np.int64), n_out - 1)
    return from_keys(n_in, n_out, np.unique(neurons * n_in + rng.integers(n_in, size=n)))


@st.composite
def connectivities(draw, largest=4096):
    n_in, n_out = draw(sizes(high=largest)), draw(sizes(high=largest))
    n = draw(st.integers(0, min(2 * n_in * n_out, 2**14)))
    return random_connectivity(n_in, n_out, n, draw(seeds), draw(st.floats(0.2, 20)))


def at_the_corners(test):
    """Also try the smallest and the largest layers, the last at 99.9%."""
    for n_in, n_out in CORNERS:
        test = example(connectivity=random_connectivity(n_in, n_out))(test)
    return test


@st.composite
def budgets(draw, widest=4096):
    n_in, n_out = draw(sizes()), draw(sizes(high=widest))
    min_fan_in = draw(st.one_of(st.just(1), sizes(high=n_in)))
    share_of_ceiling = draw(st.one_of(st.just(0.0), st.floats(0, 1), st.just(1.0)))
    return LayerBudget(n_in, n_out, share_of_ceiling * (1 - min_fan_in / n_in), min_fan_in)


@st.composite
def roomy_budgets(draw):
    """Where the fan-in has room on both sides of its mean."""
    n_in, n_out = draw(sizes(low=8)), draw(sizes(low=32, high=300))
    min_fan_in = draw(st.one_of(st.just(1), sizes(high=n_in - 4)))
    return LayerBudget(n_in, n_out, 1 - draw(st.floats(min_fan_in + 2, n_in - 2)) / n_in, min_fan_in)


CORNER_BUDGETS = [LayerBudget(n_in, n_out, 0.0 if n_in == 1 else 0.999) for n_in, n_out in CORNERS]
