"""A run that was stopped and continued is the run that was not, bit for bit."""

import random
import signal
import subprocess
import sys
import time

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from psn_lightning.callbacks import (
    GMP,
    SET,
    BestAndLast,
    EquilibriumMonitor,
    GeneratorState,
    GradientRatio,
    MaskReapply,
    RigL,
    SRigL,
    TopologyLogger,
)
from psn_lightning.cli import main
from psn_lightning.data import Digits
from psn_lightning.dynamics import moments_of
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Bernoulli
from psn_lightning.tracking import Tracking
from tests.conftest import CONF, QUIET, only_run

STEPS_PER_EPOCH = 15  # 1437 rows in batches of 96
EPOCHS = 4
RULES = {
    "RigL": lambda: RigL(period=7),
    "SET": lambda: SET(period=0.4),
    "SRigL": lambda: SRigL(period=7),
    "GMP": lambda: GMP(period=7),
}


class Noise(pl.Callback):
    """Training that draws from every global generator, as a user's augmentation may."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        batch[0].mul_(1 + 0.1 * torch.rand(1).item() + 0.1 * np.random.rand() + 0.1 * random.random())  # noqa: NPY002


class Stop(pl.Callback):
    """Asks the run to stop after some steps, as a shell's kill does."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step in self.steps:
            signal.raise_signal(signal.SIGTERM)


class Record(pl.Callback):
    """The loss of every step and the masks after it."""

    def __init__(self):
        self.losses, self.digests = {}, {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses[trainer.global_step] = outputs["loss"].item()
        self.digests[trainer.global_step] = [c.digest() for c in pl_module.network.connectivities().values()]


def run(rule, folder, stops=(), checkpoint=None, **arguments):
    """Train; returns (task, trainer, record), also when the run was stopped."""
    pl.seed_everything(11)
    task = SparseClassifier(
        64, 10, hidden=[48, 32], topology=Bernoulli(), sparsity=0.0 if rule == "GMP" else 0.8, **arguments
    )
    record = Record()
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        callbacks=[RULES[rule](), MaskReapply(), GradientRatio(), TopologyLogger(), EquilibriumMonitor(),
                   GeneratorState(), BestAndLast(), Noise(), record, Stop(stops)],
        logger=Tracking(run_name=folder.name),
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        log_every_n_steps=1,
        use_distributed_sampler=False,
    )  # fmt: skip
    try:
        trainer.fit(task, Digits(batch_size=96), ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    except SystemExit:
        assert stops
    return task, trainer, record


def stopped_and_resumed(rule, folder, stops, **arguments):
    """One run in several parts; returns the last part and the joined record."""
    checkpoint, joined = None, Record()
    for stop in (*stops, None):
        task, trainer, record = run(rule, folder, () if stop is None else (stop,), checkpoint, **arguments)
        joined.losses |= record.losses
        joined.digests |= record.digests
        checkpoint = trainer.checkpoint_callback.last_model_path
        assert stop is None or trainer.global_step == stop
    return task, trainer, joined


def assert_identical(straight, resumed):
    (task, trainer, record), (again, continued, joined) = straight, resumed
    assert joined.losses == record.losses
    assert joined.digests == record.digests
    assert continued.global_step == trainer.global_step == STEPS_PER_EPOCH * EPOCHS
    for a, b in zip(task.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for name, layer in task.network.sparse_layers().items():
        other = again.network.sparse_layers()[name]
        assert torch.equal(layer.mask, other.mask)
        pairs = zip(moments_of(layer, trainer.optimizers[0]), moments_of(other, continued.optimizers[0]), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    for a, b in zip(trainer.callbacks, continued.callbacks, strict=True):
        if isinstance(a, EquilibriumMonitor):
            assert a.trajectories == b.trajectories
        if isinstance(a, TopologyLogger):
            assert a.initial == b.initial
    metrics = {k: v for k, v in trainer.callback_metrics.items() if not k.startswith("time/")}
    assert {k: v for k, v in continued.callback_metrics.items() if not k.startswith("time/")} == metrics
    assert continued.checkpoint_callback.best_model_score == trainer.checkpoint_callback.best_model_score


@pytest.mark.parametrize("rule", RULES)
def test_five_stops_change_nothing(rule, workdir):
    straight = run(rule, workdir / "straight")
    # Of updates there is one at 7 k (and 6 k for SET); epochs end at 15 k. The others are anywhere.
    anywhere = sorted(random.Random(rule).sample([s for s in range(8, 58) if s % STEPS_PER_EPOCH], 3))
    stops = sorted({7, 21, 42, *anywhere} if rule != "SET" else {6, 22, 43, *anywhere})[:5]
    assert_identical(straight, stopped_and_resumed(rule, workdir / "resumed", stops))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
    ],
)
def test_other_optimizers_with_a_schedule(optimizer, workdir):
    arguments = {
        "optimizer": optimizer,
        "lr_scheduler": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.05, total_steps=60),
        "lr_interval": "step",
    }
    straight = run("RigL", workdir / "straight", **arguments)
    assert_identical(straight, stopped_and_resumed("RigL", workdir / "resumed", (5, 33), **arguments))


def test_a_stop_at_the_end_of_an_epoch(workdir):
    straight = run("RigL", workdir / "straight")
    for stop in (STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH):
        assert_identical(straight, stopped_and_resumed("RigL", workdir / f"resumed{stop}", (stop,)))


# --- the command line, MLflow, kill

FIT = ["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--trainer.max_epochs=6"]


def history(client, run):
    return {
        key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)] for key in run.data.metrics
    }


def deterministic(metrics):
    return {key: values for key, values in metrics.items() if not key.startswith("time/")}


def start(*arguments):
    command = [sys.executable, "-c", "from psn_lightning.cli import entry_point; entry_point()", *FIT, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_mid_epoch(workdir):
    """Return soon after a checkpoint has been written within an epoch."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in workdir.glob("mlruns/*/*/checkpoints/last.ckpt"):
            if torch.load(path, weights_only=True)["global_step"] >= 50:
                return
        time.sleep(0.02)
    raise AssertionError("no checkpoint was written")


def test_kill_9_then_last(workdir, client):
    process = start("--checkpoints.every_n_steps=10")
    wait_for_mid_epoch(workdir)
    process.kill()
    process.wait()
    killed = only_run(client)
    assert killed.info.status == "RUNNING"
    assert main([*FIT, "--ckpt_path=last", "--checkpoints.every_n_steps=10"]) == 0
    resumed = only_run(client)
    assert resumed.info.status == "FINISHED"
    assert 50 <= int(resumed.data.tags["resumed_at"]) < 138
    assert main([*FIT, "--tracking.experiment=straight"]) == 0
    (straight,) = client.search_runs([client.get_experiment_by_name("straight").experiment_id])
    metrics = history(client, resumed)
    assert all(len({step for step, _ in values}) == len(values) for values in metrics.values())
    assert deterministic(metrics) == deterministic(history(client, straight))
    assert {k: [s for s, _ in v] for k, v in metrics.items()} == {
        k: [s for s, _ in v] for k, v in history(client, straight).items()
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_saves_the_step(number, workdir, client):
    process = start("--checkpoints.every_n_steps=10")
    wait_for_mid_epoch(workdir)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143, out
    assert "--ckpt_path last goes on" in out
    assert main([*FIT, "--ckpt_path=last"]) == 0
    resumed = only_run(client)
    assert resumed.info.status == "FINISHED"
    assert int(resumed.data.tags["resumed_at"]) >= 50
    steps = [step for step, _ in history(client, resumed)["train/loss"]]
    assert steps == sorted(set(steps))


def test_a_run_that_is_finished_stays_as_it_is(workdir, client):
    assert main(FIT) == 0
    before = history(client, only_run(client))
    assert main([*FIT, "--ckpt_path=last"]) == 0
    assert history(client, only_run(client)) == before


def test_a_contradiction_lists_the_keys(workdir, client, capsys):
    assert main(FIT) == 0
    changed = ["--model.lr=0.002", "--trainer.max_epochs=7", "--ckpt_path=last"]
    assert main([*FIT, *changed]) == 2
    message = capsys.readouterr().err
    assert "model.lr: 0.001 there, 0.002 here" in message
    assert "trainer.max_epochs: 6 there, 7 here" in message
    assert "--allow_config_changes true" in message
    assert "progress_bar" not in message
    only_run(client)  # nothing was begun


def test_a_contradiction_can_be_meant(workdir, client):
    assert main(FIT) == 0
    first = only_run(client)
    changed = ["--model.lr=0.002", "--trainer.max_epochs=7", "--ckpt_path=last", "--allow_config_changes=true"]
    assert main([*FIT, *changed]) == 0
    second, same_first = client.search_runs([first.info.experiment_id])
    assert same_first.info.run_id == first.info.run_id
    assert second.data.tags["branched_from"] == first.info.run_id
    assert second.data.tags["branched_at"] == "138"
    assert "model.lr: 0.001 → 0.002" in second.data.tags["branched_with"]
    assert second.data.params["model.lr"] == "0.002"
    last = torch.load(next(workdir.glob(f"mlruns/*/{second.info.run_id}/checkpoints/last.ckpt")), weights_only=True)
    assert last["global_step"] == 161
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] == 0.002


def test_another_optimizer_cannot_be_meant(workdir, client, capsys):
    assert main(FIT) == 0
    other = ["--model.optimizer=SGD", "--model.optimizer.lr=0.1", "--ckpt_path=last", "--allow_config_changes=true"]
    assert main([*FIT, *other]) == 2
    assert "model.optimizer" in capsys.readouterr().err


def test_last_without_a_run_says_where_it_looked(workdir, capsys):
    assert main([*FIT, "--ckpt_path=last"]) == 2
    assert (
        "no run of experiment 'psn_lightning' named 'quickstart' has left a last.ckpt under mlruns"
        in capsys.readouterr().err
    )


def test_what_is_no_checkpoint_is_refused(workdir, capsys):
    (workdir / "noise.ckpt").write_bytes(bytes(range(256)) * 10)
    torch.save({"weights": torch.ones(3)}, workdir / "other.ckpt")
    for name in ("noise", "other"):
        assert main([*FIT, f"--ckpt_path={name}.ckpt"]) == 2
        assert f"--ckpt_path {name}.ckpt cannot be read as a checkpoint" in capsys.readouterr().err
