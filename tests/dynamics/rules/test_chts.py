"""Soft removal and growth against exact probabilities; the path of CHTss."""

import itertools

import pytest
import torch
from scipy import stats

from psn_lightning.dynamics import (
    Block,
    CHTsRule,
    CHTssRule,
    Connections,
    ConstantSchedule,
    LayerState,
    Update,
)
from psn_lightning.dynamics.rules.chts import measure_importance
from psn_lightning.dynamics.selection import select_top
from psn_lightning.errors import SettingError
from tests.helpers.layers import STORAGES
from tests.helpers.loops import Loop


def rows(weights, n=1):
    """Connections of ``n`` neurons with given weights each."""
    weight = torch.tensor(weights, dtype=torch.float64).repeat(n)
    state = LayerState("layer", n, len(weights), len(weight), len(weight))
    return Connections(state, torch.arange(len(weight)), weight, lambda: torch.zeros_like(weight))


def draw_subsets(scores, k):
    """Indices of the ``k`` highest scores of every row."""
    return [tuple(row) for row in scores.topk(k, dim=1).indices.sort(dim=1).values.tolist()]


def subset_probabilities(p, k):
    """Probability of every set of ``k`` draws without replacement, summed over the orders."""
    chances = dict.fromkeys(itertools.combinations(range(len(p)), k), 0.0)
    for order in itertools.permutations(range(len(p)), k):
        chance, left = 1.0, sum(p)
        for i in order:
            chance, left = chance * p[i] / left, left - p[i]
        chances[tuple(sorted(order))] += chance
    return chances


def compare(draws, chances):
    counts = [draws.count(subset) for subset in chances]
    expected = [len(draws) * chance for chance in chances.values()]
    assert stats.chisquare(counts, expected).pvalue > 1e-4


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_connections_are_kept_in_proportion_to_their_weight(progress):
    weights, rule, generator = [-0.2, 0.4, 1.0, -1.3, 0.7], CHTsRule(temperature=3.0), torch.Generator().manual_seed(1)
    rule.prepare({}, Update(0.3, progress))
    draws = draw_subsets(rule.drop_scores(rows(weights, 20_000), generator).view(-1, 5), 3)
    exponent = 1 + 2 * progress
    compare(draws, subset_probabilities([abs(w) ** exponent for w in weights], 3))


def test_a_high_temperature_is_the_hard_removal():
    rule, connections = CHTsRule(temperature=1e6), rows([0.1, -0.9, 0.5, 0.4, 0.0])
    rule.prepare({}, Update(0.3, 1.0))
    assert select_top(rule.drop_scores(connections, torch.Generator()), 2).tolist() == [1, 2]


def test_candidates_grow_in_proportion_to_their_score(monkeypatch):
    scores = torch.tensor([[0.5, 2.0, 0.0, 1.0, 0.0]], dtype=torch.float64).repeat(5000, 1)
    rule, generator = CHTsRule(), torch.Generator().manual_seed(2)
    monkeypatch.setattr(rule, "score_links", lambda block: scores)
    block = Block(LayerState("layer", 5000, 5, 0, 0), 0, torch.zeros(5000, 5, dtype=torch.bool))
    draws = draw_subsets(rule.grow_scores(block, generator), 2)
    compare([tuple([0, 1, 3].index(i) for i in draw) for draw in draws], subset_probabilities([0.5, 2.0, 1.0], 2))
    # Without a path only where nothing else is left, at random.
    assert set(draw_subsets(rule.grow_scores(block, generator), 4)) == {
        (0, 1, 2, 3),
        (0, 1, 3, 4),
    }


def test_importance_is_a_share_of_the_neuron_and_one_of_the_input():
    weight = torch.tensor([1.0, -3.0, 2.0, 2.0])
    connections = Connections(LayerState("l", 2, 2, 4, 4), torch.arange(4), weight, lambda: weight)
    expected = [1 / 4 + 1 / 3, 3 / 4 + 3 / 5, 2 / 4 + 2 / 3, 2 / 4 + 2 / 5]
    assert measure_importance(connections).tolist() == pytest.approx(expected)
    silent = Connections(
        LayerState("l", 2, 2, 3, 3), torch.tensor([0, 1, 2]), torch.tensor([0.0, 0.0, 1.0]), lambda: weight
    )
    assert measure_importance(silent).tolist() == [0.0, 0.0, 2.0]  # also where all weights of a neuron are 0
    alike = Connections(LayerState("l", 3, 5, 15, 15), torch.arange(15), torch.full((15,), 0.3), lambda: weight)
    assert measure_importance(alike).tolist() == pytest.approx([1 / 5 + 1 / 3] * 15)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("removal", ["magnitude", "importance"])
def test_chtss_follows_its_sigmoid_to_the_final_sparsity(storage, removal):
    rule = CHTssRule(0.95, removal, "CH2-L3n")
    loop = Loop(storage, rule, ConstantSchedule(0.3, 5, 5, 26))
    start = {name: int(mask.sum()) for name, mask in loop.masks().items()}
    counts = []
    for _ in range(27):
        loop.step()
        counts.append({name: int(mask.sum()) for name, mask in loop.masks().items()})
    for name, layer in loop.layers.items():
        final = round(0.05 * layer.n_out * layer.n_in)
        assert counts[5][name] == start[name]  # the first update is the start of the path
        assert counts[15][name] == pytest.approx((start[name] + final) / 2, abs=1)
        assert counts[-1][name] == final
    assert list(loop.changes) == [5, 10, 15, 20, 25]


def test_chtss_starts_denser_than_it_ends():
    with pytest.raises(SettingError, match=r"fc1: initial sparsity 0\.8000"):
        CHTssRule(0.5).check({"fc1": LayerState("fc1", 10, 10, 20, 20)})
    with pytest.raises(SettingError, match=r"fc1: final_sparsity 0\.999"):
        CHTssRule(0.999).check({"fc1": LayerState("fc1", 10, 10, 50, 50)})


@pytest.mark.parametrize("arguments", [{"removal": "noise"}, {"temperature": 0.5}])
def test_settings_out_of_range(arguments):
    with pytest.raises(SettingError, match=next(iter(arguments))):
        CHTsRule(**arguments)
