"""Each rule against a slow, obvious version of its paper, in Python lists."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from psn_lightning.dynamics import LayerState, MagnitudePruningRule, SETRule, SRigLRule, update_layer
from psn_lightning.errors import SettingError
from tests.dynamics.test_engine import step_with_dense_gradient


def lists(layer):
    """Weight, |gradient| and the active positions as lists over the flattened layer."""
    weight = layer.parameter.detach().flatten().tolist()
    gradient = [abs(g) for g in layer.dense_gradient().flatten().tolist()]
    return weight, gradient, [i for i, on in enumerate(layer.mask.flatten().tolist()) if on]


def chosen(layer):
    return [i for i, on in enumerate(layer.mask.flatten().tolist()) if on]


def prepared(layer, density, seed, **shape):
    linear = layer(density=density, seed=seed, **shape)
    step_with_dense_gradient(linear, torch.optim.SGD(linear.module.parameters(), lr=0.1), seed)
    return linear.view


# --- SET


@settings(max_examples=30, deadline=None)
@given(density=st.floats(0.1, 0.9), fraction=st.floats(0, 1), seed=st.integers(0, 999))
def test_set_drops_a_share_of_each_sign(density, fraction, seed, layer):
    sparse = prepared(layer, density, seed)
    weight, _, active = lists(sparse)
    positives, negatives = [i for i in active if weight[i] >= 0], [i for i in active if weight[i] < 0]
    n_drop = int(fraction * len(active))
    # Walk up both sides from zero at the same relative pace until enough are gone.
    pace = sorted(
        [((rank + 1) / len(side), active.index(i)) for side in (positives, negatives)
         for rank, i in enumerate(sorted(side, key=lambda i: (abs(weight[i]), i)))],
        key=lambda entry: (entry[0], -entry[1]),
    )  # fmt: skip
    kept = {i for i in active if active.index(i) not in {position for _, position in pace[:n_drop]}}
    update_layer(sparse, SETRule(), fraction, None, torch.Generator().manual_seed(seed))
    after = set(chosen(sparse))
    assert len(after) == len(active)
    assert kept <= after
    gone = len(positives) - len(kept & set(positives))
    assert abs(gone - fraction * len(positives)) <= 2


def test_set_grows_uniformly_at_random(layer):
    grown = torch.zeros(30, 40)
    for seed in range(200):
        sparse = layer(n_in=40, n_out=30, density=0.3, seed=1).view
        before = sparse.mask.clone()
        update_layer(sparse, SETRule(), 0.5, None, torch.Generator().manual_seed(seed))
        grown += sparse.mask & ~before
    never_active = ~layer(n_in=40, n_out=30, density=0.3, seed=1).view.mask
    counts = grown[never_active]
    p = counts.mean() / 200
    assert counts.var().item() == pytest.approx((200 * p * (1 - p)).item(), rel=0.15)  # binomial: no favourites


def test_set_draws_the_same_from_the_same_generator(layer):
    masks = []
    for _ in range(2):
        sparse = layer(seed=3).view
        update_layer(sparse, SETRule(), 0.5, None, torch.Generator().manual_seed(7))
        masks.append(sparse.mask)
    assert torch.equal(*masks)


# --- SRigL


def srigl_oracle(weight, gradient, active, n_out, n_in, fraction, gamma_sal, n_initial):
    """Steps 1 to 7 of Lasby et al. (2024), section 3, one connection at a time."""
    n_drop = int(fraction * len(active))
    by_weight = sorted(active, key=lambda i: (-abs(weight[i]), i))
    kept = set(by_weight[: len(active) - n_drop])
    free = sorted((i for i in range(n_out * n_in) if i not in kept), key=lambda i: (-gradient[i], i))
    salient = [sum(i // n_in == neuron for i in kept | set(free[:n_drop])) for neuron in range(n_out)]
    k = n_initial // n_out
    alive = [neuron for neuron in range(n_out) if not salient[neuron] < gamma_sal * k]
    fewest = -(-n_initial // n_in)
    if len(alive) < fewest:
        alive = sorted(set(alive) | set(sorted(range(n_out), key=lambda n: (-salient[n], n))[:fewest]))
    fan_in = min(n_in, n_initial // len(alive))
    rest = [i for i in by_weight if i // n_in in alive][: len(active) - n_drop]
    mask = set()
    for neuron in alive:
        own = [i for i in rest if i // n_in == neuron][:fan_in]
        others = sorted(
            (i for i in range(neuron * n_in, (neuron + 1) * n_in) if i not in own), key=lambda i: (-gradient[i], i)
        )
        mask |= set(own) | set(others[: fan_in - len(own)])
    return sorted(mask)


@settings(max_examples=40, deadline=None)
@example(density=0.5, fraction=1.0, gamma_sal=2.3e-309, seed=0)  # below float32: still more than nothing
@given(
    density=st.floats(0.15, 0.9),
    fraction=st.floats(0, 1),
    gamma_sal=st.floats(0, 1),
    seed=st.integers(0, 999),
)
def test_srigl_against_the_oracle(density, fraction, gamma_sal, seed, layer):
    sparse = prepared(layer, density, seed, n_in=13, n_out=11)
    weight, gradient, active = lists(sparse)
    if len(active) < 11:
        return
    expected = srigl_oracle(weight, gradient, active, 11, 13, fraction, gamma_sal, len(active))
    update_layer(sparse, SRigLRule(gamma_sal), fraction, None, torch.Generator())
    assert chosen(sparse) == expected


@settings(max_examples=30, deadline=None)
@given(density=st.floats(0.15, 0.9), gamma_sal=st.floats(0, 1), seed=st.integers(0, 999))
def test_srigl_keeps_a_constant_fan_in_within_the_budget(density, gamma_sal, seed, layer):
    linear = layer(density=density, seed=seed)
    optimizer, sparse = torch.optim.SGD(linear.module.parameters(), lr=0.1), linear.view
    step_with_dense_gradient(linear, optimizer, seed)
    budget = int(sparse.mask.sum())
    if budget < sparse.n_out:
        return
    for step in range(4):
        update_layer(sparse, SRigLRule(gamma_sal), 0.3, None, torch.Generator(), n_initial=budget)
        alive = sparse.fan_in[sparse.fan_in > 0]
        assert alive.unique().numel() == 1
        assert budget - len(alive) < int(sparse.mask.sum()) <= budget or int(alive[0]) == sparse.n_in
        step_with_dense_gradient(linear, optimizer, step)


def test_srigl_ablates_a_neuron_without_salience(layer):
    linear = layer(n_in=20, n_out=10, density=0.5)
    sparse, weight = linear.view, linear.weight
    with torch.no_grad():
        weight[3] *= 1e-6
    sparse.record_dense_gradient = True
    linear(torch.randn(5, 20)).square().sum().backward()
    weight.grad[3] = 0
    update_layer(sparse, SRigLRule(0.3), 0.3, None, torch.Generator())
    assert sparse.fan_in[3] == 0
    assert (sparse.fan_in > 0).sum() == 9
    assert not weight[3].any()


def test_srigl_needs_a_connection_per_neuron():
    with pytest.raises(SettingError, match=r"fc1: SRigL .* 9 connections .* 10 neurons"):
        SRigLRule().check({"fc1": LayerState("fc1", 10, 20, 9, 9)})
    SRigLRule().check({"fc1": LayerState("fc1", 10, 20, 10, 10)})


@pytest.mark.parametrize("gamma_sal", [-0.1, 1.1])
def test_gamma_sal_out_of_range(gamma_sal):
    with pytest.raises(SettingError, match="gamma_sal"):
        SRigLRule(gamma_sal)


# --- gradual magnitude pruning


@settings(max_examples=30, deadline=None)
@given(final=st.floats(0.3, 0.99), fraction=st.floats(0, 1), seed=st.integers(0, 999))
def test_pruning_against_the_oracle(final, fraction, seed, layer):
    sparse = prepared(layer, 1.1, seed)
    weight, _, active = lists(sparse)
    n_final = round((1 - final) * len(weight))
    target = round(n_final + (len(active) - n_final) * fraction)
    expected = sorted(sorted(active, key=lambda i: (-abs(weight[i]), i))[:target])
    update_layer(sparse, MagnitudePruningRule(final), fraction, None, torch.Generator())
    assert chosen(sparse) == expected
    assert torch.equal(sparse.active_values(), torch.tensor(weight).view_as(sparse.mask)[sparse.mask])


def test_pruning_follows_the_cubic_from_the_start_of_the_run(layer):
    sparse = layer(n_in=100, n_out=50, density=1.1).view
    rule = MagnitudePruningRule(0.9)
    for fraction in (1.0, 0.5**3, 0.0):
        update_layer(sparse, rule, fraction, None, torch.Generator(), n_initial=5000)
        assert int(sparse.mask.sum()) == round(500 + 4500 * fraction)


def test_pruning_cannot_start_beyond_its_end():
    with pytest.raises(SettingError, match=r"fc1: .*0\.9500 .*final_sparsity 0\.9"):
        MagnitudePruningRule(0.9).check({"fc1": LayerState("fc1", 10, 100, 50, 50)})
    MagnitudePruningRule(0.9).check({"fc1": LayerState("fc1", 10, 100, 1000, 1000)})


def test_final_sparsity_out_of_range():
    with pytest.raises(SettingError):
        MagnitudePruningRule(1.0)
