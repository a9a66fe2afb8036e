"""Additive model: paired tests and exact values as oracles, coverage and error rates by simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from psn_lightning.paper.report.layout import Layout

CELLS = ["random", "bell", "linear", "lognormal"]


def simulate(rng, n, effects=None, seed_std=0.2, noise=0.2, cells=CELLS):
    """Draw a layout whose seeds and noise have known standard deviations."""
    seeds = rng.normal(0, seed_std, n)
    effects = effects or {}
    return Layout(
        {
            (cell, s): 98 + effects.get(cell, 0.0) + seeds[s] + rng.normal(0, noise)
            for cell, s in itertools.product(cells, range(n))
        }
    )


@pytest.mark.parametrize("n", [3, 5, 10])
def test_coverage_of_the_intervals(n):
    """Of differences and of means, with and without an effect of the seed; bootstraps of few values cover far less."""
    rng = np.random.default_rng(n)
    hits = {"difference": [], "mean": []}
    for trial in range(1000):
        seed_std = 0.3 if trial % 2 else 0.0
        layout = simulate(rng, n, {"bell": 0.4}, seed_std)
        low, high = layout.difference("bell", "random").interval(0.05)
        hits["difference"].append(low <= 0.4 <= high)
        low, high = layout.mean("bell").interval(0.05)
        hits["mean"].append(low <= 98.4 <= high)
    for name, found in hits.items():
        assert 0.93 < np.mean(found) < 0.97, name


def test_the_bootstrap_that_was_here_covers_less():
    rng, hits = np.random.default_rng(0), []
    for _ in range(200):
        values = rng.normal(98, 0.2, 3)
        found = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=199, rng=rng).confidence_interval
        hits.append(found.low <= 98 <= found.high)
    assert np.mean(hits) < 0.85


def test_two_cells_are_the_paired_t_test():
    layout = simulate(np.random.default_rng(1), 6, cells=["a", "b"])
    a, b = ([layout.values[cell, seed] for seed in layout.seeds] for cell in "ab")
    found = layout.difference("a", "b")
    library = stats.ttest_rel(a, b)
    assert found.p_not_zero() == pytest.approx(library.pvalue)
    assert found.interval(0.05) == pytest.approx(tuple(library.confidence_interval(0.95)))
    assert found.n == 6


def test_pooling_finds_what_two_seeds_alone_cannot():
    """Twenty cells of two seeds have 19 degrees of freedom for a contrast over them; averages by seed have one."""
    cells = [f"{kind}{i}" for kind in "ab" for i in range(10)]
    layout = simulate(np.random.default_rng(2), 2, {cell: -0.4 for cell in cells if cell[0] == "b"}, cells=cells)
    found = layout.contrast({cell: (0.1 if cell[0] == "b" else -0.1) for cell in cells})
    assert found.df == 19
    assert found.p_below() < 0.001
    averages = [
        [np.mean([layout.values[cell, seed] for cell in cells if cell[0] == kind]) for seed in (0, 1)] for kind in "ba"
    ]
    assert stats.ttest_rel(*averages).pvalue > 0.01


def test_missing_seeds_shift_nothing():
    """A cell that lacks the good seeds is not worse for that."""
    rng = np.random.default_rng(3)
    seeds = {0: 1.0, 1: -1.0, 2: 0.0, 3: 2.0}
    values = {(c, s): 98 + seeds[s] + rng.normal(0, 0.01) for c, s in itertools.product("abc", seeds)}
    del values["a", 0], values["a", 3]
    layout = Layout(values)
    assert layout.difference("a", "b").difference == pytest.approx(0, abs=0.05)
    assert layout.difference("a", "b").n == 2
    assert layout.mean("a").df == 1  # of its own values


def test_what_cannot_be_estimated_is_none():
    one_seed = Layout({("a", 0): 1.0, ("b", 0): 2.0})
    assert one_seed.difference("a", "b") is None
    assert one_seed.mean("a") is None
    assert Layout({("a", 0): 1.0, ("a", 1): 2.0}).against("a") == {}
    two = simulate(np.random.default_rng(4), 3)
    assert two.difference("bell", "none") is None
    assert Layout({}).contrast({}) is None


def test_dunnett_keeps_its_level_and_finds_the_best():
    rng, false = np.random.default_rng(5), 0
    cells = [*CELLS, "e", "f", "g"]
    for _ in range(300):
        false += min(simulate(rng, 4, cells=cells).p_any_above("random").values()) < 0.05
    assert false / 300 < 0.08
    better = simulate(rng, 6, {"bell": 0.6}).p_any_above("random")
    assert better["bell"] < 0.01
    assert better["linear"] > 0.05


def test_dunnett_without_blocks_is_scipys():
    rng = np.random.default_rng(6)
    samples = {cell: rng.normal(98, 0.2, 8) for cell in CELLS}
    layout = Layout({(cell, s): v - 0.0 for cell, values in samples.items() for s, v in enumerate(values)})
    ours = layout.p_any_above("random")
    theirs = stats.dunnett(*(samples[c] for c in CELLS[1:]), control=samples["random"], alternative="greater", rng=rng)
    assert list(ours.values()) == pytest.approx(list(theirs.pvalue), abs=0.12)  # seeds take degrees of freedom here
