"""Tickets: exact counts, nested masks, the weights of the rewind checkpoint; for any module."""

import itertools

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning import sparse_layers, sparsify
from psn_lightning.checkpoints import (
    GeneratorState,
    ReplayOrder,
    RewindPoint,
    make_ticket,
    redraw_ticket,
    shuffle_ticket,
)
from psn_lightning.checkpoints.lottery import count_connections, count_kept
from psn_lightning.checkpoints.stored_layers import read_layers
from psn_lightning.errors import SettingError
from tests.faults.running import assert_equal
from tests.helpers.models import batches, plain, trainer


def state(seed, storage="masked", *, ties=False, widths=(7, 6, 5)):
    """State dict of a small module with all connections, whose weights may be equal or NaN."""
    torch.manual_seed(seed)
    module = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in itertools.pairwise(widths)))
    sparsify(module, 0.0, storage=storage)
    for layer in sparse_layers(module).values():
        values = torch.randint(-2, 3, (layer.n_out * layer.n_in,)).float() if ties else layer.active_values()
        layer.set_values(values)
    return {"state_dict": module.state_dict()}


def select_slowly(checkpoint, share, levels, scope):
    """Positions that stay by layer, by sorting Python tuples."""
    layers = read_layers(checkpoint["state_dict"])
    entries = [
        (-abs(value), i, position)
        for i, layer in enumerate(layers.values())
        for position, value in zip(layer.positions.tolist(), layer.values.tolist(), strict=True)
    ]
    groups = [entries] if scope == "network" else [[e for e in entries if e[1] == i] for i in range(len(layers))]
    kept = []
    for group in groups:
        n = len(group)
        for _ in range(levels):
            n -= round(share * n)
        kept += sorted(group)[:n]
    return {name: sorted(p for _, j, p in kept if j == i) for i, name in enumerate(layers)}


@settings(max_examples=40)
@given(
    share=st.floats(0, 0.5),
    levels=st.integers(1, 4),
    scope=st.sampled_from(["layer", "network"]),
    storage=st.sampled_from(["masked", "csr"]),
    ties=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_largest_stay_in_exact_number_with_the_weights_of_the_rewind_checkpoint(
    share, levels, scope, storage, ties, seed
):
    rewind, trained = state(seed, storage), state(seed + 100, storage, ties=ties)
    expected = select_slowly(trained, share, levels, scope)
    if not all(expected.values()):
        with pytest.raises(SettingError, match="layer collapse"):
            make_ticket(rewind, trained, share, levels, scope)
        return
    before = {key: entry.clone() for key, entry in rewind["state_dict"].items()}
    ticket = make_ticket(rewind, trained, share, levels, scope)
    start = read_layers(rewind["state_dict"])
    for name, layer in read_layers(ticket["state_dict"]).items():
        assert layer.positions.tolist() == expected[name]
        assert torch.equal(layer.values, start[name].values_at(layer.positions))
    assert_equal(before, {**rewind["state_dict"]})
    further = make_ticket(rewind, ticket, share, 1, "layer")
    for name, layer in read_layers(further["state_dict"]).items():
        assert set(layer.positions.tolist()) <= set(expected[name])
        assert len(layer.positions) == count_kept(len(expected[name]), share)


def test_counts_follow_the_integer_chain():
    assert [count_kept(266_200 - 1000, 0.2, levels) for levels in range(4)] == [265_200, 212_160, 169_728, 135_782]
    assert count_kept(1, 0.5) == 1
    assert count_kept(7, 0.0, 9) == 7


def test_masked_and_csr_give_the_same_ticket():
    tickets = [make_ticket(state(1, storage), state(2, storage), 0.4) for storage in ("masked", "csr")]
    masked, csr = (read_layers(ticket["state_dict"]) for ticket in tickets)
    for name, layer in masked.items():
        assert torch.equal(layer.positions, csr[name].positions)
        assert torch.equal(layer.values, csr[name].values)


def test_rewinding_to_the_schedule_keeps_all_trained_parameters():
    rewind, trained = state(1), state(2)
    ticket = make_ticket(rewind, trained, 0.5, rewind_to="schedule")
    after = read_layers(trained["state_dict"])
    for name, layer in read_layers(ticket["state_dict"]).items():
        assert torch.equal(layer.values, after[name].values_at(layer.positions))
        assert torch.equal(ticket["state_dict"][f"{name}.bias"], trained["state_dict"][f"{name}.bias"])


def test_a_control_with_new_weights_has_the_connections_of_the_ticket():
    ticket, drawn = make_ticket(state(1), state(2), 0.5), state(3)["state_dict"]
    control = redraw_ticket(ticket, drawn)
    before, fresh = read_layers(ticket["state_dict"]), read_layers(drawn)
    for name, layer in read_layers(control["state_dict"]).items():
        assert torch.equal(layer.positions, before[name].positions)
        assert torch.equal(layer.values, fresh[name].values_at(layer.positions))
        assert torch.equal(control["state_dict"][f"{name}.bias"], drawn[f"{name}.bias"])


def test_a_shuffled_control_has_as_many_connections_in_each_layer_at_random_positions():
    rewind = state(1, widths=(60, 50, 40))
    ticket = make_ticket(rewind, state(2, widths=(60, 50, 40)), 0.5)
    controls = [shuffle_ticket(ticket, rewind, seed) for seed in (5, 5, 6)]
    assert_equal({**controls[0]["state_dict"]}, {**controls[1]["state_dict"]})
    one, other = (read_layers(control["state_dict"]) for control in controls[1:])
    start = read_layers(rewind["state_dict"])
    for name, layer in read_layers(ticket["state_dict"]).items():
        assert len(one[name].positions) == len(layer.positions)
        for positions in (layer.positions, other[name].positions):  # half of the positions: so is a random overlap
            shared = len(np.intersect1d(one[name].positions, positions)) / len(positions)
            assert shared == pytest.approx(0.5, abs=0.06)
        assert torch.equal(one[name].values, start[name].values_at(one[name].positions))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 1.0}, "share 1.0 must be in"),
        ({"share": float("nan")}, "share nan must be in"),
        ({"levels": 0}, "levels 0 must be at least 1"),
        ({"scope": "neuron"}, "scope 'neuron' is not one of network, layer"),
        ({"rewind_to": "step"}, "rewind_to 'step' is not one of weights, schedule"),
        ({"share": 0.9, "levels": 9}, "nothing is left of 0, 1"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        make_ticket(state(1), state(2), **arguments)


def test_checkpoints_that_do_not_belong_together_are_refused():
    dense = {"state_dict": torch.nn.Linear(3, 2).state_dict()}
    with pytest.raises(SettingError, match="sparse layers none and none"):
        make_ticket(dense, dense)
    with pytest.raises(SettingError, match="sparse layers 0, 1 and 0"):
        make_ticket(state(1), state(1, widths=(7, 6)))
    with pytest.raises(SettingError, match="Only pruning may change"):
        make_ticket(make_ticket(state(1), state(2), 0.5), state(3), 0.1)
    with pytest.raises(SettingError, match="averaged weights"):
        make_ticket({**state(1), "averaging_state": {}}, state(2))


@pytest.mark.parametrize(("model", "rewind"), [("resnet", 0), ("resnet", 4), ("transformer", 8)])
def test_a_ticket_of_any_module_trains_as_a_fit_from_its_weights_does(model, rewind, tmp_path):
    """Momentum, batch norm, dropout-free; with the order of a plain DataLoader that shuffles."""

    def fit(*callbacks, ckpt_path=None, prepare=None):
        pl.seed_everything(7)
        task = plain(model, optimizer=lambda module: torch.optim.SGD(module.parameters(), 0.05, momentum=0.9))
        sparsify(task, 0.0, exclude=["net.fc" if model == "resnet" else "net.head"])
        data = batches(model)
        loader = torch.utils.data.DataLoader(data.dataset, batch_size=4, shuffle=True)
        run = trainer(GeneratorState(), ReplayOrder(), *callbacks, max_epochs=2, enable_checkpointing=True)
        if prepare is not None:
            prepare(task)
        run.fit(task, loader, ckpt_path=ckpt_path, weights_only=True)
        run.save_checkpoint(tmp_path / "end.ckpt")
        return torch.load(tmp_path / "end.ckpt", weights_only=True)

    early = tmp_path / "rewind.ckpt"
    dense = fit(RewindPoint(rewind, early))
    start = torch.load(early, weights_only=True)
    assert start["global_step"] == rewind
    ticket = make_ticket(start, dense, 0.5)
    assert [state["state"] for state in ticket["optimizer_states"]] == [{}]
    torch.save(ticket, tmp_path / "ticket.ckpt")
    level = fit(ckpt_path=tmp_path / "ticket.ckpt")
    assert level["global_step"] == dense["global_step"] == 12
    assert count_connections(level) == count_connections(ticket)
    if rewind == 0:  # a fit of its own, from the weights of the ticket
        by_hand = fit(prepare=lambda task: task.load_state_dict(ticket["state_dict"]))
        assert_equal({**level["state_dict"]}, {**by_hand["state_dict"]})
