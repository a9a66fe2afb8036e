"""A run that was stopped and continued is the run that was not, bit for bit."""

import contextlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from psn_lightning.callbacks import (
    ACDC,
    GMP,
    SET,
    STR,
    EquilibriumMonitor,
    GradientRatio,
    MaskReapply,
    RigL,
    SRigL,
    TopKAST,
    TopologyLogger,
    TrainingCost,
)
from psn_lightning.checkpoints import BestAndLast, ExactRestart, GeneratorState, OptimizerSettings, PortableMoments
from psn_lightning.cli import main
from psn_lightning.data import Digits
from psn_lightning.dynamics import moments_of
from psn_lightning.errors import SettingError
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Bernoulli, Exponential, Grouped
from psn_lightning.tracking import MLflowLogger
from tests.conftest import CONF, QUIET, only_run
from tests.helpers.models import ACCELERATOR

STEPS_PER_EPOCH = 15  # 1437 rows in batches of 96
EPOCHS = 4
RULES = {
    "RigL": lambda: RigL(period=7),
    "SET": lambda: SET(period=0.4),
    "SRigL": lambda: SRigL(period=7),
    "GMP": lambda: GMP(period=7),
    "ACDC": lambda: ACDC(period=7),
    "TopKAST": lambda: TopKAST(period=7),
    "STR": lambda: STR(initial=-4.0, weight_decay=0.01),
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


def run(rule, folder, stops=(), checkpoint=None, extra=(), loop=None, **arguments):
    """Train; returns (task, trainer, record), also when the run was stopped."""
    pl.seed_everything(11)
    sparsity = 0.0 if rule in {"GMP", "ACDC", "TopKAST", "STR"} else 0.8
    arguments = {"topology": Bernoulli(), **arguments}
    task = SparseClassifier(64, 10, hidden=[48, 32], sparsity=sparsity, **arguments)
    record = Record()
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        callbacks=[RULES[rule](), MaskReapply(), GradientRatio(), TopologyLogger(), TrainingCost(),
                   EquilibriumMonitor(), GeneratorState(), ExactRestart(),
                   PortableMoments(), BestAndLast(), Noise(), record, Stop(stops), *extra],
        logger=MLflowLogger(run_name=folder.name),
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator=ACCELERATOR,
        devices=1,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        **(loop or {}),
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
        assert torch.load(checkpoint, weights_only=True)["global_step"] == trainer.global_step
    return task, trainer, joined


def assert_identical(straight, resumed):
    (task, trainer, record), (again, continued, joined) = straight, resumed
    assert joined.losses == record.losses
    assert joined.digests == record.digests
    assert continued.global_step == trainer.global_step == max(record.losses)
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
def test_four_stops_change_nothing(rule, workdir):
    straight = run(rule, workdir / "straight")
    # Of updates there is one at 7 k (and 6 k for SET); epochs end at 15 k. The others are anywhere.
    anywhere = random.Random(rule).sample([s for s in range(23, 58) if s % STEPS_PER_EPOCH and s != 42], 1)
    stops = sorted([7, 21, 42, *anywhere] if rule != "SET" else [6, 22, 43, *anywhere])
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


@pytest.mark.parametrize("rule", ["RigL", "GMP"])
def test_csr_goes_on_as_exactly(rule, workdir):
    straight = run(rule, workdir / "straight", storage="csr")
    assert_identical(straight, stopped_and_resumed(rule, workdir / "resumed", (14, 37), storage="csr"))


@pytest.mark.parametrize("rule", ["RigL", "GMP"])
def test_groups_go_on_as_exactly(rule, workdir):
    arguments = {"storage": "groups", "topology": Grouped(8, Exponential(), neurons="interleaved")}
    straight = run(rule, workdir / "straight", **arguments)
    assert_identical(straight, stopped_and_resumed(rule, workdir / "resumed", (14, 37), **arguments))


@pytest.mark.parametrize("loop", [{}, {"max_steps": EPOCHS * STEPS_PER_EPOCH}], ids=["epochs", "steps"])
def test_a_stop_at_the_end_of_an_epoch(loop, workdir):
    straight = run("RigL", workdir / "straight", loop=loop)
    stops = (STEPS_PER_EPOCH - 1, STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH)
    assert_identical(straight, stopped_and_resumed("RigL", workdir / "resumed", stops, loop=loop))


class Decline(pl.Callback):
    """An accuracy that falls, so that the first epoch stays the best."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("test/accuracy", 1 / (2 + trainer.current_epoch))


def test_last_is_the_last_also_where_the_best_came_first(workdir):
    _, trainer, _ = run("RigL", workdir / "declining", extra=[Decline()])
    steps = {
        name: torch.load(Path(trainer.checkpoint_callback.dirpath) / f"{name}.ckpt", weights_only=True)["global_step"]
        for name in ("best", "last")
    }
    assert steps == {"best": STEPS_PER_EPOCH, "last": STEPS_PER_EPOCH * EPOCHS}


def test_a_stop_waits_for_the_accumulated_gradients(workdir):
    """15 batches an epoch in groups of 4: 4 optimizer steps, the last of 3 batches."""
    arguments = {"loop": {"accumulate_grad_batches": 4}}

    class StopAtBatch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.current_epoch == 2 and batch_idx == 5:  # the second of its group
                signal.raise_signal(signal.SIGTERM)

    straight = run("RigL", workdir / "straight", **arguments)
    _, first, joined = run("RigL", workdir / "cut", (-1,), extra=[StopAtBatch()], **arguments)
    assert first.global_step == 10  # the group was finished
    task, second, record = run("RigL", workdir / "cut", (), first.checkpoint_callback.last_model_path, **arguments)
    joined.losses |= record.losses
    joined.digests |= record.digests
    assert_identical(straight, (task, second, joined))


def test_a_run_that_ends_within_an_epoch_goes_on_there(workdir):
    class EnoughForNow(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.should_stop = trainer.should_stop or trainer.global_step == 20

    straight = run("RigL", workdir / "straight")
    _, first, joined = run("RigL", workdir / "cut", extra=[EnoughForNow()])
    assert first.global_step == 20
    task, second, record = run("RigL", workdir / "cut", checkpoint=first.checkpoint_callback.last_model_path)
    joined.losses |= record.losses
    joined.digests |= record.digests
    assert_identical(straight, (task, second, joined))


def test_evaluation_between_micro_batches_is_refused(workdir):
    with pytest.raises(SettingError, match="accumulate_grad_batches 4"):
        run("RigL", workdir / "a", loop={"accumulate_grad_batches": 4, "val_check_interval": 5})


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


def wait_for_checkpoint(workdir, step):
    """Return soon after a checkpoint of that step, or a later one, has been written."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in workdir.glob("mlruns/*/*/checkpoints/last.ckpt"):
            if torch.load(path, weights_only=True)["global_step"] >= step:
                return
        time.sleep(0.005)
    raise AssertionError("no checkpoint was written")


@pytest.mark.faults
@pytest.mark.parametrize("every", ["10", "null"])
def test_kill_9_then_last(every, workdir, client):
    """Killed within an epoch, soon after its own checkpoint or that of the epoch before."""
    process = start(f"--checkpoints.every_n_steps={every}")
    wait_for_checkpoint(workdir, 50 if every == "10" else 46)
    process.kill()
    process.wait()
    killed = only_run(client)
    assert killed.info.status == "RUNNING"
    assert main([*FIT, "--ckpt_path=last", f"--checkpoints.every_n_steps={every}"]) == 0
    resumed = only_run(client)
    assert resumed.info.status == "FINISHED"
    assert 46 <= int(resumed.data.tags["resumed_at"]) < 138
    assert_every_step_once(client, resumed)


def assert_every_step_once(client, resumed):
    """Compare a run in parts with one that was never cut."""
    assert main([*FIT, "--tracking.experiment=straight"]) == 0
    (straight,) = client.search_runs([client.get_experiment_by_name("straight").experiment_id])
    metrics, expected = history(client, resumed), history(client, straight)
    assert deterministic(metrics) == deterministic(expected)
    assert {k: [s for s, _ in v] for k, v in metrics.items()} == {k: [s for s, _ in v] for k, v in expected.items()}


@pytest.mark.faults
def test_kill_9_before_any_checkpoint_begins_again_in_the_same_run(workdir, client):
    assert main([*FIT, "--seed_everything=1"]) == 0  # an older run of that name, which is not meant
    (older,) = client.search_runs(["1"])
    process = start("--data.init_args.batch_size=4", "--trainer.max_epochs=2")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(client.search_runs(["1"], "params.trainer.max_epochs != ''")) < 2:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not list(workdir.glob(f"mlruns/1/{client.search_runs(['1'])[0].info.run_id}/checkpoints/last.ckpt"))
    assert main([*FIT, "--ckpt_path=last"]) == 2  # the older one's settings are not the newer one's
    again = ["--data.init_args.batch_size=4", "--trainer.max_epochs=2", "--ckpt_path=last"]
    assert main([*FIT, *again]) == 0
    newest, same = client.search_runs(["1"])
    assert same.info.run_id == older.info.run_id
    assert newest.info.status == "FINISHED"
    assert newest.data.tags["resumed_at"] == "0"
    steps = [step for step, _ in history(client, newest)["train/loss"]]
    assert steps == sorted(set(steps))


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_stop_saves_the_step(number, workdir, client):
    process = start("--checkpoints.every_n_steps=10")
    wait_for_checkpoint(workdir, 50)
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143, out
    assert re.search(r"stopped at step \d+; .*\S+/last\.ckpt", out)
    stopped = only_run(client)
    assert stopped.info.status == "KILLED"
    assert re.match(r"stopped at step \d+", stopped.data.tags["killed"])
    assert main([*FIT, "--ckpt_path=last"]) == 0
    resumed = only_run(client)
    assert resumed.info.status == "FINISHED"
    assert "killed" not in resumed.data.tags
    assert int(resumed.data.tags["resumed_at"]) >= 50
    assert_every_step_once(client, resumed)


@pytest.fixture(scope="module")
def _finished(tmp_path_factory, _empty_store):
    """Folder with a finished run of ``FIT``, made once."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "mlruns").mkdir()
    shutil.copy(_empty_store, folder / "mlruns" / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert main(FIT) == 0
    return folder


@pytest.fixture
def finished(_finished, workdir):
    """A copy of the finished run is in the working directory and its store; to be requested before ``client``."""
    shutil.copytree(_finished / "mlruns", workdir / "mlruns", dirs_exist_ok=True)


def test_a_run_that_is_finished_stays_as_it_is(finished, client):
    before = history(client, only_run(client))
    assert main([*FIT, "--ckpt_path=last"]) == 0
    assert history(client, only_run(client)) == before


def test_a_contradiction_lists_the_keys(finished, client, capsys):
    changed = ["--model.lr=0.002", "--trainer.max_epochs=7", "--ckpt_path=last"]
    assert main([*FIT, *changed]) == 2
    message = capsys.readouterr().err
    assert "model.lr 0.002, formerly 0.001" in message
    assert "trainer.max_epochs 7, formerly 6" in message
    assert "allow_config_changes" in message
    assert "progress_bar" not in message
    only_run(client)  # nothing was begun


def test_a_contradiction_can_be_meant(finished, workdir, client):
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


def test_another_optimizer_cannot_be_meant(finished, capsys):
    other = ["--model.optimizer=SGD", "--model.optimizer.lr=0.1", "--ckpt_path=last", "--allow_config_changes=true"]
    assert main([*FIT, *other]) == 2
    assert "model.optimizer" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["--model.sparsity=0.5", "--seed_everything=7", "--model.topology=Uniform"])
def test_what_the_checkpoint_brings_cannot_be_changed(setting, finished, client, capsys):
    assert main([*FIT, setting, "--ckpt_path=last", "--allow_config_changes=true"]) == 2
    assert "cannot change" in capsys.readouterr().err
    only_run(client)


def test_only_the_optimizer_settings_that_were_changed_are(workdir):
    arguments = {"lr_scheduler": lambda o: torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.1)}
    first = {**arguments, "optimizer": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.0)}
    _, trainer, _ = run("RigL", workdir / "a", (40,), **first)
    second = {**arguments, "optimizer": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.5)}
    last = trainer.checkpoint_callback.last_model_path
    changed = OptimizerSettings(["model.optimizer.init_args.weight_decay"])
    _, trainer, _ = run("RigL", workdir / "a", (41,), last, extra=[changed], **second)
    (group,) = trainer.optimizers[0].param_groups
    assert group["weight_decay"] == 0.5
    assert group["lr"] == pytest.approx(0.001)
    with pytest.raises(SettingError, match="lr"):
        run("RigL", workdir / "a", (41,), last, extra=[OptimizerSettings(["model.lr"])], **second)


def test_last_without_a_run_says_where_it_looked(workdir, capsys):
    assert main([*FIT, "--ckpt_path=last"]) == 2
    assert "no training run of experiment 'psn_lightning' named 'quickstart'" in capsys.readouterr().err


def test_what_is_no_checkpoint_is_refused(workdir, capsys):
    (workdir / "noise.ckpt").write_bytes(bytes(range(256)) * 10)
    torch.save({"weights": torch.ones(3)}, workdir / "other.ckpt")
    for name in ("noise", "other"):
        assert main([*FIT, f"--ckpt_path={name}.ckpt"]) == 2
        assert f"{name}.ckpt" in capsys.readouterr().err


def test_a_run_that_the_store_does_not_have_is_named(finished, workdir, client, capsys):
    """Its checkpoint was brought from elsewhere; nothing is made in the store that was meant by mistake."""
    run_id = only_run(client).info.run_id
    (path,) = workdir.glob("mlruns/*/*/checkpoints/last.ckpt")
    again = [*FIT, f"--ckpt_path={path}", "--tracking.uri=sqlite:///other/mlflow.db"]
    assert main(again) == 2
    assert f"run {run_id} of the checkpoint is not in sqlite:///other/mlflow.db" in capsys.readouterr().err
    assert not (workdir / "other").exists()
    MLflowLogger(uri="sqlite:///other/mlflow.db").start()  # of another run
    assert main(again) == 2
    assert f"run {run_id} of the checkpoint is not in sqlite:///other/mlflow.db" in capsys.readouterr().err
    assert main([*again, "--trainer.logger=false"]) == 0


def test_a_run_goes_on_where_its_checkpoints_are(workdir, client):
    tracking = MLflowLogger()
    tracking.resume("a" * 32, 3, workdir / "mlruns" / "offline" / "offline-1" / "checkpoints" / "last.ckpt")
    assert tracking.tracked.names == ("offline", "offline-1")
    elsewhere = MLflowLogger()
    elsewhere.resume("a" * 32, 3, workdir / "copies" / "last.ckpt")
    assert elsewhere.tracked.names == (None, "a" * 32)
