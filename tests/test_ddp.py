"""Two processes are one with twice the batch."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from psn_lightning.callbacks import MaskReapply
from psn_lightning.callbacks.ranks import check_equal_connectivity, refuse_sharding
from psn_lightning.cli import main
from psn_lightning.data import Digits
from psn_lightning.errors import SettingError
from tests.conftest import CONF, QUIET, ROOT, only_run
from tests.helpers import collectives, ddp_mixture
from tests.helpers.ddp_run import RUNS


def environment():
    launched = {"LOCAL_RANK", "WORLD_SIZE", "NODE_RANK"}
    return {k: v for k, v in os.environ.items() if k not in launched} | {"OMP_NUM_THREADS": "1"}


def processes(*command, cwd):
    command = [sys.executable, *command]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Folder of the records of one and of two processes."""
    folder = tmp_path_factory.mktemp("ddp")
    for n in (1, 2):
        processes("-m", "tests.helpers.ddp_run", str(folder), str(n), cwd=ROOT)
    return folder


@pytest.mark.services
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_against_one(name, records):
    one, rank0, rank1 = (torch.load(records / f"{name}-{ranks}.pt") for ranks in ("1-0", "2-0", "2-1"))
    assert len(one["losses"]) == 300
    assert len(one["masks"]) == 5
    for a, b in zip(rank0["masks"], rank1["masks"], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    if name.startswith("GraEst"):  # each process draws signs for its own rows
        return
    for a, b in zip(one["masks"], rank0["masks"], strict=True):
        equal = sum(int((x == y).sum()) for x, y in zip(a, b, strict=True))
        assert equal / sum(x.numel() for x in a) >= 0.999
    assert rank0["losses"] == pytest.approx(one["losses"], abs=1e-6)
    # Together the two had the rows of the one, each once.
    for whole, *shares in zip(one["rows"], rank0["rows"], rank1["rows"], strict=True):
        assert torch.equal(whole.sort().values, torch.cat(shares).sort().values)
    assert rank0["metrics"]["val/accuracy"] == pytest.approx(one["metrics"]["val/accuracy"])
    assert rank0["metrics"]["val/loss"] == pytest.approx(one["metrics"]["val/loss"], abs=1e-6)


FIT = ["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--trainer.max_epochs=8"]
DDP = ["--trainer.strategy=ddp", "--trainer.devices=2", "--data.init_args.batch_size=32"]


def history(client, experiment):
    """All metrics of an experiment's only run, but times."""
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    assert run.info.status == "FINISHED"
    keys = [key for key in run.data.metrics if not key.startswith("time/")]
    return {key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)] for key in keys}


@pytest.fixture
def script(workdir):
    """What the installed command is."""
    path = workdir / "psn_train.py"
    path.write_text("from psn_lightning.cli import entry_point; entry_point()")
    return str(path)


@pytest.mark.services
def test_the_command_line_on_two_processes(script, workdir, client):
    """One run, rank 0 logs; what it logs is what one process logs. Beside the gradients one exchange in a step."""
    shutil.copy(collectives.__file__, workdir)
    count = "--trainer.callbacks+=collectives.Count"
    out = processes(script, *FIT, *DDP, "--tracking.experiment=two", count, cwd=workdir)
    assert out.count("MLflow run") == 1
    for rank in (0, 1):
        steps = json.loads((workdir / f"collectives-{rank}.json").read_text())
        assert {tuple(calls) for kind, calls in steps if kind == "plain"} == {("allreduce",)}
    assert main([*FIT, "--tracking.experiment=one"]) == 0
    one, two = history(client, "one"), history(client, "two")
    assert two.keys() == one.keys()
    # float32, and 1437 rows are not even: nearly equal while the first epoch lasts
    assert two["train/loss"][0] == pytest.approx(one["train/loss"][0], rel=1e-3)
    assert two["test/accuracy"][-1] == pytest.approx(one["test/accuracy"][-1], abs=0.02)


@pytest.mark.services
def test_experts_without_rows_on_a_process_do_not_stop_ddp(tmp_path):
    """Without find_unused_parameters. The gradient is the mean of those of the local batches, balance losses too."""
    processes("-m", "tests.helpers.ddp_mixture", str(tmp_path), cwd=ROOT)
    alone = [ddp_mixture.step(rank) for rank in range(2)]
    together = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    idle = [counts == 0 for _, counts in alone]
    assert all(rows.sum() >= 14 for rows in idle)
    assert (idle[0] != idle[1]).any()
    for gradients, _ in together:
        for ours, first, second in zip(gradients, alone[0][0], alone[1][0], strict=True):
            torch.testing.assert_close(ours, (first + second) / 2, rtol=0, atol=1e-12)


@pytest.mark.services
def test_shares_of_experts_are_those_of_all_processes(script, workdir, client):
    overlay = ["--config", str(CONF / "moe" / "shazeer.yaml"), "--trainer.max_epochs=2"]
    processes(script, *FIT, *DDP, *overlay, cwd=workdir)
    metrics = history(client, "psn_lightning")
    for layer in ("fc1", "fc2"):
        shares = [metrics[f"moe/share/{layer}/{i}"][-1][1] for i in range(20)]
        assert sum(shares) == pytest.approx(2)  # of 20 experts, for each row
        assert all(1e-4 < share < 0.5 for share in shares)


@pytest.mark.faults
def test_stopped_and_continued_it_is_the_same_run(script, workdir, client):
    processes(script, *FIT, *DDP, "--tracking.experiment=whole", cwd=workdir)
    cut = [script, *FIT, *DDP, "--tracking.experiment=cut"]
    process = subprocess.Popen(
        [sys.executable, *cut], cwd=workdir, env=environment(), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    folder = client.get_experiment_by_name  # known once the run has begun
    while time.monotonic() < deadline and not (
        folder("cut") and list(workdir.glob(f"mlruns/{folder('cut').experiment_id}/*/checkpoints/last.ckpt"))
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped at step" in err
    processes(*cut, "--ckpt_path=last", cwd=workdir)
    assert history(client, "cut") == history(client, "whole")


@pytest.mark.faults
def test_a_first_process_that_takes_long_to_hand_over_is_not_killed(script, workdir, client):
    """Lightning kills it within five seconds after another process has ended with an error."""
    (workdir / "slow.py").write_text(
        "import time\n"
        "import lightning.pytorch as pl\n"
        "class Slow(pl.Callback):\n"
        "    def on_exception(self, trainer, pl_module, exception):\n"
        "        if trainer.is_global_zero:\n"
        "            time.sleep(12)\n"
    )
    command = [sys.executable, script, *FIT, *DDP, "--trainer.max_epochs=500", "--trainer.callbacks+=slow.Slow"]
    process = subprocess.Popen(command, cwd=workdir, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(workdir.glob("mlruns/*/*/checkpoints/last.ckpt")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 143, err
    assert "stopped at step" in err
    assert only_run(client).info.status == "KILLED"


@pytest.mark.services
def test_processes_that_see_different_checkpoints_do_not_go_on(script, workdir):
    """As over a network file system that shows the second machine an older file."""
    (workdir / "stale.py").write_text(
        "import lightning.pytorch as pl\n"
        "class Stale(pl.Callback):\n"
        "    def on_train_start(self, trainer, pl_module):\n"
        "        if trainer.global_rank == 1:\n"
        "            for state in trainer.optimizers[0].state.values():\n"
        "                state['exp_avg'].mul_(0.9)\n"
    )
    command = [script, *FIT, *DDP, "--trainer.callbacks+=stale.Stale"]
    processes(*command, "--trainer.max_epochs=1", cwd=workdir)
    resumed = [*command, "--trainer.max_epochs=2", "--ckpt_path=last", "--allow_config_changes=true"]
    done = subprocess.run(
        [sys.executable, *resumed], cwd=workdir, env=environment(), capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "resumed from different checkpoints" in done.stderr


@pytest.mark.services
def test_a_loss_that_is_no_number_on_one_process_ends_both(script, workdir, client):
    """The other one would wait for its gradients for ever, or end with an error of the network's."""
    (workdir / "poison.py").write_text(
        "import lightning.pytorch as pl\n"
        "class Poison(pl.Callback):\n"
        "    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):\n"
        "        if trainer.global_rank == 1 and trainer.global_step == 7:\n"
        "            batch[0][0, 0] = float('nan')\n"
    )
    command = [sys.executable, script, *FIT, *DDP, "--trainer.callbacks+=poison.Poison"]
    done = subprocess.run(command, cwd=workdir, env=environment(), capture_output=True, text=True, timeout=240)
    printed = done.stdout + done.stderr
    assert done.returncode == 2, printed
    assert "Traceback" not in printed
    assert "the loss is nan at step 7 (epoch 0, batch 7" in printed
    assert "the loss of another process is not finite at step 7" in printed
    assert [path.name for path in workdir.glob("mlruns/**/*autopsy.ckpt")] == ["rank1-autopsy.ckpt"]
    assert only_run(client).info.status == "FAILED"


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed_stage_2", "ModelParallelStrategy"])
def test_strategies_that_cut_weights_are_refused(strategy, workdir, capsys):
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), f"--trainer.strategy={strategy}"]) == 2
    assert f"strategy {strategy}" in capsys.readouterr().err
    with pytest.raises(SettingError, match="strategy"):
        refuse_sharding("lightning.pytorch.strategies.FSDPStrategy")


def test_ordinary_strategies_are_not(workdir):
    for strategy in ("auto", "ddp", "ddp_spawn", "ddp_find_unused_parameters_true"):
        refuse_sharding(strategy)
    assert MaskReapply().setup(pl.Trainer(accelerator="cpu", logger=False), pl.LightningModule(), "fit") is None


class TwoProcesses:
    """What :func:`check_equal_connectivity` sees of a Trainer with a second process that may differ."""

    world_size, global_step = 2, 7


class Gathered:
    def __init__(self, network, other):
        self.sparse_layers, self.device, self._other = network.sparse_layers, torch.device("cpu"), other

    def all_gather(self, mine):
        return torch.stack([mine, mine + self._other])


def test_different_connections_are_noticed(network):
    check_equal_connectivity(TwoProcesses(), Gathered(network, 0))
    with pytest.raises(RuntimeError, match="step 7"):
        check_equal_connectivity(TwoProcesses(), Gathered(network, 1))


def test_evaluation_rows_are_on_one_process_each():
    seen = []
    for rank in range(3):
        data = Digits()
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        data.trainer = SimpleNamespace(world_size=3, global_rank=rank, strategy=strategy)
        data.setup()
        seen += [row for batch in data.test_dataloader() for row in batch[1].tolist()]
    data.trainer = None
    assert sorted(seen) == sorted(row for batch in data.test_dataloader() for row in batch[1].tolist())
