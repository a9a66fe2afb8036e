"""The levels of a lottery against fits that are made by hand."""

import os
import signal

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from psn_lightning import Magnitude, prune, sparse_layers
from psn_lightning.checkpoints.stored_layers import read_layers
from psn_lightning.commands.comparison import compare
from psn_lightning.data import Digits
from psn_lightning.sweeps.lottery.files import Level
from psn_lightning.task import SparseClassifier
from tests.commands.test_own_model import CODE
from tests.conftest import QUIET
from tests.faults.running import assert_equal
from tests.helpers.models import trainer

SGD = ["--model.lr=0.001", "--model.optimizer=SGD", "--model.optimizer.lr=0.1"]
PLATEAU = ["--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau", "--model.lr_scheduler.patience=0"]
PLATEAU += ["--model.lr_scheduler.threshold=0.9", "--trainer.max_epochs=3"]  # the rate falls at the second update


def make_task():
    pl.seed_everything(42)
    return SparseClassifier(64, 10, hidden=[24, 16], sparsity=0, lr=0.001)


def test_two_levels_are_fits_made_by_hand(lottery):
    """Three fits of a plain Trainer; masks by sorting Python tuples."""
    masks = {}
    for i in range(3):
        task = make_task()
        for name, layer in sparse_layers(task).items():
            if masks:
                layer.set_mask(masks[name])
        trainer(max_epochs=2).fit(task, Digits(batch_size=120))
        assert_equal({**lottery.final[Level(i)]["state_dict"]}, {**task.state_dict()})
        assert lottery.results[Level(i)].connections == sum(
            len(x.active_values()) for x in sparse_layers(task).values()
        )
        for name, layer in sparse_layers(task).items():
            order = sorted(zip(layer.active_values().abs().tolist(), (-layer.active_positions()).tolist(), strict=True))
            masks[name] = torch.zeros_like(layer.mask)
            for _, position in order[round(0.3 * len(order)) :]:
                masks[name].view(-1)[-position] = True


@pytest.mark.parametrize("storage", ["masked", pytest.param("csr", marks=pytest.mark.slow)])
def test_with_share_0_a_level_is_the_first_fit(run_lottery, final, storage):
    dense, level = final(run_lottery("--levels=1", "--share=0", f"--model.storage={storage}"))
    assert_equal(level["state_dict"], dense["state_dict"])
    assert_equal(level["optimizer_states"], dense["optimizer_states"])


@pytest.mark.parametrize("rewind", [5, pytest.param(12, marks=pytest.mark.slow)])
def test_late_rewinding_with_share_0_and_plain_sgd_is_the_first_fit(run_lottery, final, rewind):
    dense, level = final(run_lottery("--levels=1", "--share=0", f"--rewind={rewind}", *SGD, *PLATEAU))
    assert level["global_step"] == dense["global_step"] == 36
    assert_equal(level["state_dict"], dense["state_dict"])
    rates = [checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] for checkpoint in (dense, level)]
    assert rates == [pytest.approx(0.01)] * 2


def test_rewinding_to_the_schedule_is_fine_tuning_of_the_trained_network(run_lottery, final):
    """By a plain loop over the rows of the second epoch, with a new optimizer."""
    dense, level = final(run_lottery("--levels=1", "--share=0.5", "--rewind=12", "--rewind-to=schedule"))
    task, data = make_task(), Digits(batch_size=120)
    task.load_state_dict(dense["state_dict"])
    prune(task, Magnitude(), 0.5, scope="layer")
    data.setup("fit")
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    optimizer = torch.optim.Adam(task.parameters(), 0.001, fused=True)
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(task(x), y).backward()
        optimizer.step()
    assert level["global_step"] == 24
    assert_equal({**level["state_dict"]}, {**task.state_dict()})


def test_controls_are_fitted_beside_their_ticket_on_the_same_rows(lottery):
    def load(path):
        return torch.load(path, weights_only=True)

    start = load(lottery.files.rewind)
    ticket, redraw, shuffle = (load(lottery.files.ticket(Level(2, c))) for c in (None, "redraw", "shuffle"))
    for control in (redraw, shuffle):
        assert_equal(control["loops"], ticket["loops"])
        assert_equal(control["psn_lightning.generators"], ticket["psn_lightning.generators"])
    layers = [read_layers(checkpoint["state_dict"]) for checkpoint in (start, ticket, redraw, shuffle)]
    for name in layers[0]:
        dense, kept, drawn, moved = (by_name[name] for by_name in layers)
        assert torch.equal(kept.positions, drawn.positions)
        assert abs(np.corrcoef(kept.values.numpy(), drawn.values.numpy())[0, 1]) < 0.2
        assert drawn.values.std() == pytest.approx(float(dense.values.std()), rel=0.2)  # the scale of the dense network
        assert torch.equal(moved.values, dense.values_at(moved.positions))
    for control in ("redraw", "shuffle"):
        assert lottery.results[Level(2, control)].connections == lottery.results[Level(2)].connections


def test_the_runs_say_which_level_and_how_many_connections(lottery):
    dense, level, control = (
        lottery.client.get_run(lottery.results[key].run) for key in (Level(0), Level(1), Level(1, "redraw"))
    )
    assert [run.data.tags["role"] for run in (dense, level, control)] == ["dense", "ticket", "redraw"]
    assert [run.data.tags["level"] for run in (dense, level, control)] == ["0", "1", "1"]
    ticket = "1344 of 1920 connections by layer, weights of step 0"
    assert [run.data.tags.get("ticket") for run in (dense, level, control)] == [None, ticket, f"{ticket}, redrawn"]
    assert {run.data.tags["mlflow.parentRunId"] for run in (dense, level, control)} == {lottery.parent.id}
    assert [run.info.run_name for run in (level, control)] == ["mine-level-01", "mine-level-01-redraw"]
    history = lottery.client.get_metric_history(level.info.run_id, "sparsity/realised")
    assert [(m.step, m.value) for m in history] == [(step, pytest.approx(0.3, abs=1e-3)) for step in (0, 11, 23)]


def test_a_comparison_tells_tickets_from_the_dense_network(lottery):
    runs = [lottery.client.get_run(result.run) for result in lottery.results.values()]
    comparison = compare(runs, ["test/accuracy"])
    assert len(comparison.mean) == len(lottery.results) == 7
    assert list(comparison.settings) == ["ticket"]
    assert sorted(comparison.mean["test/accuracy"]) == sorted(result.value for result in lottery.results.values())


def test_a_level_that_was_stopped_goes_on_in_its_own_run_and_ends_the_same(lottery, run_lottery, final):
    stopped = []

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 17:
                stopped.append(trainer.logger.run_id)
                os.kill(os.getpid(), signal.SIGTERM)

    made = run_lottery("--levels=1", "--share=0.3", stop=Stop())
    assert [result.run for result in made.results.values()] == stopped
    for checkpoint, level in zip(final(made), made.results, strict=True):
        assert_equal(checkpoint["state_dict"], lottery.final[level]["state_dict"])


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_metric_that_the_fits_do_not_have_is_named_after_the_first_epoch(epochs, run_lottery, client, capfd):
    with pytest.raises(AssertionError, match="2 == 0"):
        run_lottery("--levels=1", "--metric=val/accuracy", f"--trainer.max_epochs={epochs}")
    (run,) = client.search_runs(["1"], "tags.stage = 'fit'")
    assert len(client.get_metric_history(run.info.run_id, "test/accuracy")) == 1
    message = capfd.readouterr().err
    assert "--metric val/accuracy: the fits have no such metric, only" in message
    assert "test/accuracy" in message


@pytest.fixture
def own_model(workdir, monkeypatch):
    """A LightningModule with dropout and a loader that shuffles, made sparse by a callback."""
    (workdir / "their_lottery.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(workdir))
    sparsify = '[{"class_path": "Sparsify", "init_args": {"sparsity": 0.0, "exclude": ["net.3"]}}]'
    model = ["--model=their_lottery.MyModel", "--data=their_lottery.MyData", f"--trainer.callbacks={sparsify}"]
    return [*model, *QUIET, "--trainer.max_epochs=2", "--metric=val_acc"]


def test_a_model_of_ones_own_has_tickets_and_controls(run_lottery, own_model, final):
    made = run_lottery("--levels=1", "--share=0", "--control", "redraw", fit=own_model)
    dense, level, redraw = final(made)
    assert_equal(level["state_dict"], dense["state_dict"])
    assert {result.connections for result in made.results.values()} == {20 * 48}
    assert not torch.equal(redraw["state_dict"]["net.0.weight"], dense["state_dict"]["net.0.weight"])


def test_a_dense_model_of_ones_own_is_told_what_it_lacks(run_lottery, own_model, capfd):
    fit = [argument for argument in own_model if not argument.startswith("--trainer.callbacks")]
    with pytest.raises(AssertionError, match="2 == 0"):
        run_lottery("--levels=1", fit=[*fit, "--trainer.max_epochs=1"])
    assert "MyModel has no sparse layer that a lottery could prune" in capfd.readouterr().err
