"""Each claim with runs that reproduce it, runs that do not, and runs that decide nothing."""

import pytest

from psn_lightning.paper.report.dynamic_claims import dynamic_claims
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.static_claims import static_claims
from psn_lightning.paper.report.topology_claims import topology_claims
from psn_lightning.paper.report.verdicts import Verdict
from psn_lightning.topology.equilibrium import PAPER_TABLE_4

HOLDS, FAILS, UNKNOWN = Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.OPEN


def verdict(claims, words, data=None):
    (claim,) = (claim for claim in claims if words in claim.title and data in (None, claim.data))
    return claim.verdict


def test_without_runs_only_the_topology_claims_are_decided():
    claims = [*static_claims(Runs([])), *dynamic_claims(Runs([]))]
    assert len(claims) > 20
    assert {claim.verdict for claim in claims} == {UNKNOWN}
    assert all("too few runs" in claim.ours for claim in claims)


def test_topologies():
    claims = list(topology_claims())
    failed = [claim.title for claim in claims if claim.verdict is FAILS]
    assert failed == ["The quadratic profile has CCV 0.25, within 0.01"]
    assert not any(claim.verdict is UNKNOWN for claim in claims)


@pytest.mark.parametrize(
    ("bell", "spread", "expected"), [(98.0, 0.05, HOLDS), (97.0, 0.05, FAILS), (98.0, 2.0, UNKNOWN)]
)
def test_profiles_equal_random(made, bell, spread, expected):
    runs = made("static", "mnist", "profile", {"random": 98.0, "bell": bell, "quadratic": 98.02}, spread)
    assert verdict(static_claims(runs), "Static profiles equal random", "MNIST") is expected


@pytest.mark.parametrize(("bell", "expected"), [(98.05, HOLDS), (99.0, FAILS)])
def test_no_profile_beats_random(made, bell, expected):
    runs = made("static", "mnist", "profile", {"random": 98.0, "bell": bell})
    assert verdict(static_claims(runs), "No static profile beats", "MNIST") is expected


@pytest.mark.parametrize(("dense", "expected"), [(98.3, HOLDS), (99.5, FAILS)])
def test_near_dense(made, dense, expected):
    runs = made("static", "mnist", "profile", {"dense": dense, "bell": 98.0})
    assert verdict(static_claims(runs), "points of dense", "MNIST") is expected


def test_the_dense_accuracy_of_a_subset_decides_nothing(made):
    complete = made("static", "emnist", "profile", {"dense": 85.97})
    subset = made("static", "emnist", "profile", {"dense": 85.97}, completeness="subset")
    assert verdict(static_claims(complete), "reaches 85.97%") is HOLDS
    assert verdict(static_claims(subset), "reaches 85.97%") is UNKNOWN


@pytest.mark.parametrize(("sequential", "expected"), [(74.0, HOLDS), (80.0, FAILS)])
def test_sequential_spreading(made, sequential, expected):
    runs = made("spreading", "mnist", "model.spreading", {"even": 97.5, "sequential": sequential, "random": 97.5})
    claims = list(static_claims(runs))
    assert verdict(claims, "Sequential spreading") is expected
    assert verdict(claims, "Even and random") is HOLDS


@pytest.mark.parametrize(("shape", "expected"), [(lambda x: 1 + 4 * x, HOLDS), (lambda x: (7 * x) % 3, FAILS)])
def test_gradient_ratio(made, shape, expected):
    ccvs = [0.1 * i for i in range(1, 16)]
    cells = {f"p{ccv:.1f}": (97.0, {"fan_in/ccv": ccv, "gradient/ratio": 1 + shape(ccv)}) for ccv in ccvs}
    runs = made("gradient", "mnist", "profile", cells, spread=0.01)
    assert verdict(static_claims(runs), "gradient ratio follows") is expected


@pytest.mark.parametrize(("worst", "expected"), [(97.3, HOLDS), (96.0, FAILS)])
def test_multi_peak(made, worst, expected):
    cells = {1: worst, 4: 97.6, 64: 97.7}
    runs = made("multipeak", "mnist", "peaks", cells)
    assert verdict(static_claims(runs), "Multi-peak") is expected


@pytest.mark.parametrize(("sparsest", "expected"), [(92.5, HOLDS), (95.0, FAILS)])
def test_the_loss_with_sparsity(made, sparsest, expected):
    cells = {"85": 97.8, "98": 97.2, "99": 96.7, "ceiling": sparsest}
    claims = [
        claim
        for profile in ("bell", "bell inverse")
        for claim in made("mnist-sparsity", "mnist", "sparsity", cells, cell={"profile": profile}).all
    ]
    claims = list(static_claims(Runs(claims)))
    assert verdict(claims, "From 99 to 99.9%") is expected
    assert verdict(claims, "From 85 to 98%") is HOLDS
    assert verdict(claims, "its inverse") is HOLDS


@pytest.mark.parametrize(("gain", "expected"), [(1.4, HOLDS), (0.5, FAILS), (-1.0, FAILS)])
def test_a_third_layer(made, gain, expected):
    cells = {"[256, 256]": 93.0, "[256, 256, 256]": 93.0 + gain}
    runs = made("architecture", "forest", "model.hidden", cells)
    assert verdict(static_claims(runs), "third hidden layer") is expected


def equilibrium(made, from_lognormal):
    cells = {
        "erk": (89.0, {"fan_in/ccv": 2.52}),
        "lognormal": (89.0, {"fan_in/ccv": from_lognormal}),
    }
    return made("equilibrium", "fashion", "start", cells, spread=0.01, cell={"model.sparsity": 0.9})


@pytest.mark.parametrize(("ccv", "expected"), [(2.53, HOLDS), (1.5, FAILS)])
def test_independent_of_the_start(made, ccv, expected):
    claims = list(dynamic_claims(equilibrium(made, ccv)))
    assert verdict(claims, "does not depend on the start") is expected
    assert verdict(claims, "is that of Table 4") is HOLDS
    assert PAPER_TABLE_4["fashion"][0.9] == 2.52


EARLY_BELOW = {"erk": [88.0] * 11 + [89.0] * 9, "equilibrium": [87.0] * 10 + [89.5] * 10}
NEVER_BELOW = {"erk": [88.0] * 20, "equilibrium": [89.0] * 20}


@pytest.mark.parametrize(("ahead", "curves", "expected"), [(0.5, EARLY_BELOW, HOLDS), (-0.5, NEVER_BELOW, FAILS)])
def test_ten_seeds(made, ahead, curves, expected):
    cells = {"erk": 89.0, "equilibrium": 89.0 + ahead}
    claims = list(dynamic_claims(made("fashion-10-seeds", "fashion", "start", cells, curves=curves)))
    assert verdict(claims, "ten seeds") is expected
    assert verdict(claims, "overtakes it") is expected


@pytest.mark.parametrize(("erk", "expected"), [(94.3, HOLDS), (95.5, FAILS)])
def test_erk_is_worst(made, erk, expected):
    cells = {"erk": erk, "uniform": 94.8, "equilibrium": 95.0}
    runs = made("rigl-init", "forest", "start", cells, cell={"model.sparsity": 0.9}).all
    runs += made("static", "forest", "profile", {"random": 94.8}).all
    claims = list(dynamic_claims(Runs(runs)))
    assert verdict(claims, "ERK is the worst start") is expected
    assert verdict(claims, "beats ERK by 0.49") is expected


@pytest.mark.parametrize(("best", "expected"), [(89.5, HOLDS), (88.0, FAILS)])
def test_nearer_is_better(made, best, expected):
    cells = {"erk": 89.0, "equilibrium -1.0": 88.5, "equilibrium -0.5": 89.0, "equilibrium": best}
    runs = made("rigl-init", "fashion", "start", cells, cell={"model.sparsity": 0.9})
    assert verdict(dynamic_claims(runs), "The nearer") is expected
