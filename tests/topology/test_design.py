import pytest

from psn_lightning.errors import SettingError
from psn_lightning.topology import Bell, Bernoulli, Exponential, Lognormal, MultiPeak, Topology
from psn_lightning.topology.statistics import realised_sparsity

SIZES = [784, 1024, 1024, 10]


@pytest.mark.parametrize("family", [Exponential(), Lognormal(2.0), Bernoulli()])
@pytest.mark.parametrize("allocation", ["uniform", "erk"])
def test_realised_sparsity_is_on_target(family, allocation):
    layers = Topology(family, 0.9, allocation).connect(SIZES, "random", 42)
    assert realised_sparsity(layers) == pytest.approx(0.9, abs=0.001)


def test_same_seed_same_topology_and_layers_differ():
    topology = Topology(Bernoulli(), 0.9)
    first, again, other = (topology.connect([64, 64, 64, 3], "random", seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[0] != first[1]


def test_dense_baseline_is_sparsity_zero():
    assert realised_sparsity(Topology(sparsity=0.0).connect([9, 8, 7, 2], "random", 0)) == 0


@pytest.mark.parametrize("family", [Exponential(), Bell(), MultiPeak()], ids=repr)
def test_sparsity_zero_is_dense_whatever_the_profile(family):
    assert realised_sparsity(Topology(family, 0.0).connect([9, 8, 7, 2], "random", 0)) == 0


def test_a_clamp_that_moves_the_sparsity_is_told():
    with pytest.warns(UserWarning, match=r"fc1: .* 0\.3000, .* 0\.43"):
        Topology(Exponential(), 0.3).connect([784, 1024, 10], "random", 0)


def test_network_budget_pays_for_the_output():
    hidden, network = (Topology(sparsity=0.9, allocation="erk", budget=b) for b in ("hidden", "network"))
    sizes = [784, 512, 512, 10]
    assert sum(b.n_connections for b in hidden.budgets(sizes)) == pytest.approx(66867.2 - 512, abs=1)
    assert sum(b.n_connections for b in network.budgets(sizes)) == pytest.approx(66867.2 - 5120, abs=1)


def test_errors_name_the_layer():
    with pytest.raises(SettingError, match="fc1"):
        Topology(sparsity=0.99).connect([54, 1024, 1024, 7], "random", 0)
    with pytest.raises(SettingError, match="fc1"):
        Topology(Lognormal(2.9), 0.9).connect([54, 1024, 7], "random", 0)


@pytest.mark.parametrize("sizes", [[5, 2], [5, 0, 2], []])
def test_layer_sizes_that_make_no_network(sizes):
    with pytest.raises(SettingError, match="layer sizes"):
        Topology().connect(sizes, "random", 0)


def test_unknown_budget():
    with pytest.raises(SettingError, match="budget 'all'"):
        Topology(budget="all")
