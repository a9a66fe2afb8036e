"""The updater in a bare PyTorch loop."""

import copy
import math
from itertools import product

import pytest
import torch

from psn_lightning.dynamics import (
    ACDCRule,
    CHTRule,
    CHTsRule,
    CHTssRule,
    ConstantSchedule,
    CosineSchedule,
    CubicSchedule,
    GraNetRule,
    MagnitudePruningRule,
    MESTRule,
    RigLRule,
    SETRule,
    SRigLRule,
    TopologyUpdater,
    moments_of,
)
from psn_lightning.errors import SettingError
from psn_lightning.nn import sparse_layers, sparsify
from tests.helpers.layers import STORAGES
from tests.helpers.loops import Loop

RULES = {
    "RigL": RigLRule,
    "SET": SETRule,
    "SRigL": SRigLRule,
    "GMP": lambda: MagnitudePruningRule(0.95),
    "GraNet": lambda: GraNetRule(0.95),
    "AC/DC": lambda: ACDCRule(0.9),
    "MEST": MESTRule,
    "EM&S": lambda: MESTRule(soft=True),
    "CHT": lambda: CHTRule(stop_overlap=0.4),
    "CHTs": lambda: CHTsRule("importance"),
    "CHTss": lambda: CHTssRule(0.95, score="CH2-L3n"),
}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("storage", STORAGES)
def test_updates_come_when_the_schedule_says(storage):
    loop = Loop(storage, schedule=ConstantSchedule(0.3, 10, 5, 30))
    counts = {name: int(mask.sum()) for name, mask in loop.masks().items()}
    before = loop.masks()
    for step in range(40):
        loop.step()
        assert same(before, loop.masks()) == (step not in (5, 15, 25))
        before = loop.masks()
    assert list(loop.changes) == [5, 15, 25]
    for changes in loop.changes.values():
        for name, change in changes.items():
            assert change.grown == change.dropped > 0
            assert change.contested == pytest.approx(int(0.3 * counts[name]) / counts[name])
    assert {name: int(mask.sum()) for name, mask in loop.masks().items()} == counts


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("rule", RULES)
def test_the_storages_train_alike(rule, skip):
    schedule = CubicSchedule(1.0, 10, 0, 30) if rule == "GMP" else CosineSchedule(0.3, 10, 0, 30)
    masked, csr = (Loop(storage, RULES[rule](), schedule, skip_step_on_update=skip).train(32) for storage in STORAGES)
    assert list(masked.changes) == [0, 10, 20]
    assert masked.changes == csr.changes
    assert same(masked.masks(), csr.masks())
    for name, layer in masked.layers.items():
        other = csr.layers[name]
        torch.testing.assert_close(layer.active_values(), other.active_values())
        moments = zip(moments_of(layer, masked.optimizer), moments_of(other, csr.optimizer), strict=True)
        for a, b in moments:
            torch.testing.assert_close(layer.compress(a), b)


@pytest.mark.parametrize("skip", [True, False])
def test_an_update_may_take_the_place_of_the_optimizer_step(skip):
    loop = Loop(skip_step_on_update=skip).train(10)
    bias = loop.network.output.bias.detach().clone()
    loop.step()
    assert list(loop.changes) == [10]
    assert torch.equal(loop.network.output.bias, bias) == skip


@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_left_for_the_optimizer_is_masked(storage):
    loop = Loop(storage, skip_step_on_update=False)
    for _ in range(25):
        loop.step()
        for layer in loop.layers.values():
            for tensor in (layer.parameter, layer.parameter.grad, *moments_of(layer, loop.optimizer)):
                assert storage == "csr" or not tensor[~layer.mask].any()


@pytest.mark.parametrize("storage", STORAGES)
def test_gradients_are_recorded_for_updates_only(storage):
    loop = Loop(storage)
    for step in range(22):
        expected = step in (10, 20)
        assert [layer.record_dense_gradient for layer in loop.layers.values()] == [expected] * 2
        assert loop.updater.is_due == expected
        loop.step()
    quiet = Loop(storage, SETRule())
    for _ in range(12):
        assert not any(layer.record_dense_gradient for layer in quiet.layers.values())
        quiet.step()
    assert list(quiet.changes) == [10]


@pytest.mark.parametrize("storage", STORAGES)
def test_micro_batches_are_one_batch(storage):
    whole, parts = (
        Loop(storage, schedule=ConstantSchedule(0.3, 1, 0, 9)),
        Loop(storage, schedule=ConstantSchedule(0.3, 1, 0, 9)),
    )
    for _ in range(4):
        whole.step()
        parts.optimizer.zero_grad()
        for part in (slice(0, 10), slice(10, 20)):
            parts.backward(parts.updater.step, part)
        for group in parts.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad /= 2
        parts.updater.before_step()
        parts.optimizer.step()
        assert same(whole.masks(), parts.masks())


def test_a_rule_may_be_given_to_several_updaters():
    rule = CHTRule(stop_overlap=0.01)
    first, second = (Loop("masked", rule, ConstantSchedule(0.3, 5, 5, 21)) for _ in range(2))
    first.train(21)
    assert first.updater.state_dict()["rule"]["stopped"]
    assert not second.updater.state_dict()["rule"]["stopped"]
    assert second.train(21).changes == first.changes


@pytest.mark.parametrize("rule", RULES)
def test_convolutions_and_what_they_feed_are_updated(rule):
    torch.manual_seed(0)
    convolutions = torch.nn.Conv2d(2, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 5, 3)
    model = torch.nn.Sequential(*convolutions, torch.nn.Flatten(), torch.nn.Linear(45, 4))
    sparsify(model, 0.6, exclude=["4"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    layers = sparse_layers(model)
    schedule = ConstantSchedule(0.3, 2, 1, 8)
    if rule == "AC/DC":
        for layer in layers.values():
            layer.set_active(torch.arange(layer.n_out * layer.n_in))
    updater = TopologyUpdater(layers, RULES[rule](), schedule, optimizer, skip_step_on_update=False)
    before, changes = {name: layer.mask.clone() for name, layer in layers.items()}, []
    for _ in range(9):
        optimizer.zero_grad()
        (model(torch.randn(8, 2, 7, 7)) - 1).square().mean().backward()
        changes.append(updater.before_step())
        optimizer.step()
        for layer in layers.values():
            assert not layer.parameter.detach().view(layer.mask.shape)[~layer.mask].any()
    assert [bool(change) for change in changes] == [False, True] * 4 + [False]
    assert any(not torch.equal(before[name], layer.mask) for name, layer in layers.items())
    if updater.rule.keeps_count:
        assert [int(layer.mask.sum()) for layer in layers.values()] == [int(mask.sum()) for mask in before.values()]


# At an update every rule in both storages; before and after updates one that draws and one that does not.
STOPS = [*product(RULES, [10], STORAGES), *product(["RigL", "SET"], [3, 11, 16, 20], ["csr"])]


@pytest.mark.parametrize(("rule", "stop", "storage"), STOPS)
def test_a_loop_goes_on_where_it_stopped(rule, storage, stop):
    schedule = ConstantSchedule(0.3, 5, 5, 21)  # three updates that end within the run
    straight = Loop(storage, RULES[rule](), schedule).train(25)
    first = Loop(storage, RULES[rule](), schedule).train(stop)
    second = Loop(storage, RULES[rule](), schedule, seed=9)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.train(25 - stop)
    assert first.changes | second.changes == straight.changes
    assert same(second.network.state_dict(), straight.network.state_dict())
    assert torch.equal(second.updater.generator.get_state(), straight.updater.generator.get_state())


def test_the_generators_state_is_in_the_state_dict():
    one, other = Loop(rule=SETRule()), Loop(rule=SETRule(), seed=9)
    one.updater.generator.manual_seed(9)
    torch.rand(3, generator=one.updater.generator)
    other.updater.load_state_dict(copy.deepcopy(one.updater.state_dict()))
    drawn = [torch.rand(3, generator=loop.updater.generator) for loop in (one, other)]
    assert torch.equal(*drawn)


def test_the_seed_decides_what_grows_at_random():
    first, again, other = (Loop(rule=SETRule(), seed=seed).train(11).masks() for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


def test_the_connections_of_the_start_are_in_the_state_dict():
    straight = Loop(rule=MagnitudePruningRule(0.95), schedule=CubicSchedule(1.0, 10, 0, 30)).train(15)
    again = Loop(rule=MagnitudePruningRule(0.95), schedule=CubicSchedule(1.0, 10, 0, 30))
    again.load_state_dict(copy.deepcopy(straight.state_dict()))
    straight.train(10)
    again.train(10)
    assert same(straight.masks(), again.masks())
    assert int(again.masks()["fc1"].sum()) == round(0.05 * 64 * 48)


def broken(loop, steps):
    """Train; gradients of some steps are not finite, and the optimizer is not called there."""
    for step in range(30):
        loop.optimizer.zero_grad()
        loop.backward(step)
        if step in steps:
            loop.network.output.bias.grad[0] = math.inf
        if changes := loop.updater.before_step():
            loop.changes[step] = changes
        if step not in steps:
            loop.optimizer.step()
    return list(loop.changes)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    ("steps", "updates"),
    [((10,), [0, 20]), ((20,), [0, 10, 21]), ((20, 21), [0, 10, 22]), ((0, 10), [20]), ((), [0, 10, 20])],
)
def test_a_gradient_that_is_not_finite_skips_the_update_but_the_last_is_made_up_for(storage, steps, updates):
    assert broken(Loop(storage, schedule=CosineSchedule(0.3, 10, 0, 25)), steps) == updates


def test_the_debt_is_in_the_state_dict():
    loop = Loop(schedule=CosineSchedule(0.3, 10, 0, 25)).train(20)
    loop.optimizer.zero_grad()
    loop.backward(20)
    loop.network.output.bias.grad[0] = math.nan
    assert loop.updater.before_step() == {}
    other = Loop(schedule=CosineSchedule(0.3, 10, 0, 25))
    other.load_state_dict(copy.deepcopy(loop.state_dict()))
    assert other.updater.is_due
    other.step()
    assert list(other.changes) == [21]


def test_a_batch_without_gradients_skips_the_update():
    loop = Loop().train(10)
    loop.optimizer.zero_grad()
    assert loop.updater.before_step() == {}
    loop.optimizer.step()
    loop.train(10)
    assert list(loop.changes) == [20]


def test_layers_of_other_optimizers_are_left_alone():
    loop = Loop()
    optimizers = [torch.optim.SGD(list(m.parameters()), lr=0.1) for m in (loop.network.fc1, loop.network.fc2)]
    schedule = CosineSchedule(0.3, 10, 0, 100)
    updaters = [TopologyUpdater(loop.layers, RigLRule(), schedule, optimizer) for optimizer in optimizers]
    for updater in updaters:
        updater.prepare_step()
    loop.backward(0)
    before = loop.masks()
    assert list(updaters[0].before_step()) == ["fc1"]
    after = loop.masks()
    assert not torch.equal(before["fc1"], after["fc1"])
    assert torch.equal(before["fc2"], after["fc2"])
    assert list(updaters[1].before_step()) == ["fc2"]


def test_frozen_layers_are_left_alone():
    loop = Loop()
    loop.layers["fc1"].parameter.requires_grad_(False)
    loop.train(11)
    assert list(loop.changes[10]) == ["fc2"]


def test_after_the_stop_nothing_is_recorded():
    loop = Loop(schedule=CosineSchedule(0.3, 1, 0, 100)).train(2)
    assert all(layer.record_dense_gradient for layer in loop.layers.values())
    loop.updater.stop()
    assert not any(layer.record_dense_gradient for layer in loop.layers.values())


def test_lengths_turn_shares_into_steps():
    schedule = CosineSchedule(0.3, period=0.5, begin=0.25, end=0.5)
    assert Loop(schedule=schedule, total_steps=100, steps_per_epoch=20).updater.window == schedule.window(100, 20)
    with pytest.raises(SettingError, match=r"period 0\.5"):
        Loop(schedule=schedule)


def test_lbfgs_is_refused():
    loop = Loop()
    with pytest.raises(SettingError, match="LBFGS"):
        TopologyUpdater(loop.layers, RigLRule(), loop.updater.schedule, torch.optim.LBFGS(loop.network.parameters()))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_layer_that_takes_no_part_in_the_loss_is_left_alone_and_holds_up_no_other(storage):
    torch.manual_seed(3)
    module = torch.nn.ModuleDict({"used": torch.nn.Linear(12, 20), "unused": torch.nn.Linear(12, 20)})
    sparsify(module, 0.7, storage=storage)
    optimizer = torch.optim.Adam(module.parameters())
    layers = sparse_layers(module)
    updater = TopologyUpdater(layers, RigLRule(), CosineSchedule(0.5, 2, 0, 4), optimizer)
    before = {name: layer.active_positions().clone() for name, layer in layers.items()}
    for _ in range(4):
        optimizer.zero_grad()
        module["used"](torch.randn(8, 12)).square().sum().backward()
        updater.before_step()
        optimizer.step()
    assert not torch.equal(layers["used"].active_positions(), before["used"])
    assert torch.equal(layers["unused"].active_positions(), before["unused"])


def test_a_step_without_any_gradient_is_made_up_for_at_the_end():
    module = torch.nn.Sequential(torch.nn.Linear(12, 20))
    sparsify(module, 0.7)
    optimizer = torch.optim.Adam(module.parameters())
    updater = TopologyUpdater(sparse_layers(module), RigLRule(), CosineSchedule(0.5, 2, 0, 4), optimizer)
    done = []
    for step in range(5):
        optimizer.zero_grad()
        if step != 2:
            module(torch.randn(8, 12)).square().sum().backward()
        done.append(bool(updater.before_step()))
        optimizer.step()
    assert done == [True, False, False, True, False]  # the update of step 2 is made in step 3
