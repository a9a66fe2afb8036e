"""Two processes are one with twice the batch."""

import os
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from psn_lightning.callbacks import MaskReapply
from psn_lightning.callbacks.ranks import check_equal_connectivity, refuse_sharding
from psn_lightning.cli import main
from psn_lightning.data import Digits
from psn_lightning.errors import SettingError
from tests.conftest import CONF, QUIET, only_run

SCRIPT = Path(__file__).with_name("ddp_run.py")


def processes(*command, cwd):
    environment = {k: v for k, v in os.environ.items() if k not in {"LOCAL_RANK", "WORLD_SIZE", "NODE_RANK"}}
    environment |= {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *command]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("rule", ["RigL", "SET", "SRigL"])
def test_two_processes_against_one(rule, tmp_path):
    for n in (1, 2):
        processes(str(SCRIPT), str(tmp_path), str(n), rule, cwd=tmp_path)
    one, rank0, rank1 = (torch.load(tmp_path / f"{rule}-{name}.pt") for name in ("1-0", "2-0", "2-1"))
    assert len(one["losses"]) == 300
    assert len(one["masks"]) == 5
    for a, b in zip(rank0["masks"], rank1["masks"], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    for a, b in zip(one["masks"], rank0["masks"], strict=True):
        equal = sum(int((x == y).sum()) for x, y in zip(a, b, strict=True))
        assert equal / sum(x.numel() for x in a) >= 0.999
    assert rank0["losses"] == pytest.approx(one["losses"], abs=1e-6)
    # Together the two had the rows of the one, each once.
    for whole, *shares in zip(one["rows"], rank0["rows"], rank1["rows"], strict=True):
        assert torch.equal(whole.sort().values, torch.cat(shares).sort().values)
    assert rank0["metrics"]["val/accuracy"] == pytest.approx(one["metrics"]["val/accuracy"])
    assert rank0["metrics"]["val/loss"] == pytest.approx(one["metrics"]["val/loss"], abs=1e-6)


def test_the_command_line_on_two_processes(workdir, client):
    ddp = ["--trainer.strategy=ddp", "--trainer.devices=2", "--data.init_args.batch_size=32", "--trainer.max_epochs=3"]
    fit = ["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET]
    script = workdir / "psn_train.py"  # what the installed command is
    script.write_text("from psn_lightning.cli import entry_point; entry_point()")
    out = processes(str(script), *fit, *ddp, cwd=workdir)
    assert out.count("MLflow run") == 1
    run = only_run(client)  # the other process logs nothing
    assert run.info.status == "FINISHED"
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == sorted(set(steps))
    assert main([*fit, "--trainer.max_epochs=3", "--tracking.experiment=single"]) == 0
    (single,) = client.search_runs([client.get_experiment_by_name("single").experiment_id])
    assert run.data.metrics["test/accuracy"] == pytest.approx(single.data.metrics["test/accuracy"], abs=0.02)


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed_stage_2", "ModelParallelStrategy"])
def test_strategies_that_cut_weights_are_refused(strategy, workdir, capsys):
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), f"--trainer.strategy={strategy}"]) == 2
    assert f"trainer.strategy {strategy} cuts the weights into pieces" in capsys.readouterr().err
    with pytest.raises(SettingError, match="use ddp"):
        refuse_sharding("lightning.pytorch.strategies.FSDPStrategy")


def test_ordinary_strategies_are_not(workdir):
    for strategy in ("auto", "ddp", "ddp_spawn", "ddp_find_unused_parameters_true"):
        refuse_sharding(strategy)
    assert MaskReapply().setup(pl.Trainer(accelerator="cpu", logger=False), None, "fit") is None


class TwoProcesses:
    """What :func:`check_equal_connectivity` sees of a Trainer with a second process that may differ."""

    world_size, global_step = 2, 7


class Gathered:
    def __init__(self, network, other):
        self.network, self.device, self._other = network, torch.device("cpu"), other

    def all_gather(self, mine):
        return torch.stack([mine, mine + self._other])


def test_different_connections_are_noticed(network):
    check_equal_connectivity(TwoProcesses(), Gathered(network, 0))
    with pytest.raises(RuntimeError, match="step 7: the processes' connections differ"):
        check_equal_connectivity(TwoProcesses(), Gathered(network, 1))


def test_evaluation_rows_are_on_one_process_each():
    seen = []
    for rank in range(3):
        data = Digits()
        data.trainer = type("T", (), {"world_size": 3, "global_rank": rank})()
        data.setup()
        seen += [row for batch in data.test_dataloader() for row in batch[1].tolist()]
    data.trainer = None
    assert sorted(seen) == sorted(row for batch in data.test_dataloader() for row in batch[1].tolist())
