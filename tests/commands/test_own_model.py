"""`psn-train` with somebody's own model and data: fit, table, checkpoints, resume, test, predict, topology, sweep."""

import csv
import sys

import mlflow
import pytest
import torch

from psn_lightning.cli import main
from tests.conftest import CONF, QUIET, only_run

CODE = '''
import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class MyModel(pl.LightningModule):
    def __init__(self, width: int = 48, lr: float = 0.01):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 3))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(logits, batch[1]))
        self.log("val_acc", (logits.argmax(dim=1) == batch[1]).float().mean())

    def test_step(self, batch, batch_idx):
        self.log("test_acc", (self.net(batch[0]).argmax(dim=1) == batch[1]).float().mean())

    def predict_step(self, batch, batch_idx):
        return self.net(batch[0])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)


class MyData(pl.LightningDataModule):
    def setup(self, stage):
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(300, 20, generator=generator)
        self.rows = TensorDataset(x, (x @ torch.randn(20, 3, generator=generator)).argmax(dim=1))

    def train_dataloader(self):
        return DataLoader(self.rows, batch_size=30, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.rows, batch_size=100)

    test_dataloader = predict_dataloader = val_dataloader


class SizedData(MyData):
    n_features, n_classes = 20, 3


class OtherModel(MyModel):
    """Unlike its class, without a step to validate."""

    validation_step = None
'''
CONFIG = """
model:
  class_path: own_code.MyModel
  init_args: {width: 40}
data: own_code.MyData
trainer:
  max_epochs: 3
  log_every_n_steps: 5
  callbacks:
    - class_path: RigL
      init_args: {period: 5}
    - class_path: Sparsify
      init_args: {sparsity: 0.7}
tracking: {run_name: own}
"""


@pytest.fixture
def own(workdir, monkeypatch):
    """A folder with somebody's code in it, as psn-train is started in."""
    (workdir / "own_code.py").write_text(CODE)
    (workdir / "own.yaml").write_text(CONFIG)
    monkeypatch.syspath_prepend(str(workdir))
    monkeypatch.delitem(sys.modules, "own_code", raising=False)
    return ["--config", str(workdir / "own.yaml"), *QUIET]


def test_fit_records_everything_and_its_configuration_reruns_it(own, client, workdir, capsys):
    assert main(["fit", *own]) == 0
    run = only_run(client)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.class_path"] == "own_code.MyModel"
    assert run.data.params["model.init_args.width"] == "40"
    assert run.data.tags["rule"] == "RigL"
    assert run.data.tags["storage"] == "masked"
    assert run.data.tags["dataset.name"] == "MyData"
    names = {"train_loss", "val_loss", "val_acc", "sparsity/realised", "fan_in/ccv", "gradient/ratio"}
    assert names | {"fan_in/ccv/net.0", "topology/grown/net.3", "gradient/ratio/net.0"} <= set(run.data.metrics)
    assert run.data.metrics["sparsity/realised"] == pytest.approx(1 - round(0.3 * 920) / 920)
    artifacts = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "fan_in_before_after.png", "equilibrium.png"} <= artifacts
    assert {f.path for f in client.list_artifacts(run.info.run_id, "checkpoints")} >= {"checkpoints/best.ckpt"}
    out = capsys.readouterr().out
    assert all(text in out for text in ("val_acc", "realised sparsity", "fan-in CCV", run.info.run_id))
    config = client.download_artifacts(run.info.run_id, "config.yaml", str(workdir))
    assert main(["fit", "--config", config, *QUIET, "--tracking.run_name=again"]) == 0
    runs = client.search_runs([run.info.experiment_id])
    assert len(runs) == 2
    metrics = [{k: v for k, v in r.data.metrics.items() if not k.startswith("time/")} for r in runs]
    assert metrics[0] == metrics[1]


def history(client, run_id):
    keys = [key for key in client.get_run(run_id).data.metrics if not key.startswith("time/")]
    return {key: [(m.step, m.value) for m in client.get_metric_history(run_id, key)] for key in keys}


def test_stopped_and_resumed_it_is_the_same_run(own, client, workdir):
    """Within an epoch of ten shuffled batches and at its end, with dropout."""
    (workdir / "stopping.py").write_text(
        "import signal\nimport lightning.pytorch as pl\n"
        "class Stop(pl.Callback):\n"
        "    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):\n"
        "        if trainer.global_step in (7, 10, 13):\n"
        "            signal.raise_signal(signal.SIGTERM)\n"
    )
    assert main(["fit", *own, "--tracking.experiment=straight"]) == 0
    stop = ["--trainer.callbacks+=stopping.Stop"]
    assert main(["fit", *own, "--tracking.experiment=cut", *stop]) == 143
    again = ["fit", *own, "--tracking.experiment=cut", *stop, "--ckpt_path=last"]
    assert [main(again) for _ in range(3)] == [143, 143, 0]
    finals = []
    for name in ("straight", "cut"):
        (run,) = client.search_runs([client.get_experiment_by_name(name).experiment_id])
        assert run.info.status == "FINISHED"
        finals.append(run.info.run_id)
    assert history(client, finals[0]) == history(client, finals[1])
    states = [
        torch.load(client.download_artifacts(id_, "checkpoints/last.ckpt"), weights_only=True)["state_dict"]
        for id_ in finals
    ]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_test_and_predict_from_its_checkpoint(own, client, workdir):
    assert main(["fit", *own]) == 0
    trained = only_run(client)
    assert main(["test", *own, "--ckpt_path=last"]) == 0
    newest = client.search_runs([trained.info.experiment_id])[0]
    assert newest.data.metrics["test_acc"] == pytest.approx(trained.data.metrics["val_acc"])
    assert main(["predict", *own, "--ckpt_path=last"]) == 0
    with (workdir / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    assert set(rows[0]) == {"row", "predicted_0", "predicted_1", "predicted_2"}


def test_topology_shows_it(own, workdir, capsys):
    assert main(["topology", *own[:2], "--figure=own.png"]) == 0
    out = capsys.readouterr().out
    assert "20 → 40" in out
    assert (workdir / "own.png").is_file()


def test_dense_and_without_validation(own, client, capsys):
    """A baseline: no callback, no validation step."""
    flags = ["--model=own_code.OtherModel", "--data=own_code.MyData", *QUIET, "--trainer.max_epochs=2"]
    assert main(["fit", *flags]) == 0
    run = only_run(client)
    assert run.data.tags["storage"] == "dense"
    assert "sparsity/realised" not in run.data.metrics
    assert "fan-in CCV" not in capsys.readouterr().out


@pytest.mark.services
def test_a_sweep_over_it(own, client, workdir):
    (workdir / "sweep.yaml").write_text(
        "name: own\nbase: [own.yaml]\nsampler: grid\nobjective: val_acc\ndirection: maximize\nseeds: [1]\n"
        "space:\n  model.init_args.width: [16, 24]\n"
    )
    status = main(["sweep", "--config", str(workdir / "sweep.yaml")])
    assert status == 0
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.rule = 'RigL'")
    assert {run.data.params["model.init_args.width"] for run in runs} == {"16", "24"}


def test_our_model_on_plain_data(own, client, capsys):
    """It has to say how many features and classes there are."""
    flags = ["--model.hidden=[16,16]", "--model.sparsity=0.5", *QUIET, "--trainer.max_epochs=1"]
    assert main(["fit", "--data=own_code.MyData", *flags]) == 2
    assert "give it the attributes n_features and n_classes" in capsys.readouterr().err
    assert main(["fit", "--data=own_code.SizedData", *flags]) == 0
    assert "val/accuracy" in only_run(client).data.metrics


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--model=own_code.Nothing"], "own_code.Nothing"),
        (["--model=no_code.MyModel"], "No module named 'no_code'"),
        (["--model=own_code.MyModel", "--model.widht=3"], "did you mean width?"),
        (["--model=own_code.MyModel", "--data=own_code.MyDatum"], "own_code.MyDatum"),
    ],
)
def test_what_is_wrong_is_named(arguments, culprit, own, capsys, workdir):
    assert main(["fit", *arguments]) == 2
    err = capsys.readouterr().err
    assert culprit in err
    assert "Traceback" not in err
    assert not list(workdir.glob("mlruns/*/*"))


QUICK = ["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--trainer.max_epochs=2"]


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint"])
def test_a_metric_that_nobody_logs_is_told_in_two_lines(callback, workdir, capsys):
    assert main([*QUICK, f"--trainer.callbacks+={callback}", "--trainer.callbacks.monitor=nothing"]) == 2
    err = capsys.readouterr().err
    assert "nothing" in err
    assert "test/accuracy" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--trainer.fast_dev_run=true"],
        ["--trainer.max_steps=10", "--model.lr_scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau"],
        [
            "--trainer.accumulate_grad_batches=4",
            "--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau",
            "--model.lr_scheduler.monitor=test/loss",
        ],
    ],
)
def test_short_runs_and_plateaus(arguments, workdir):
    assert main([*QUICK, *arguments]) == 0


def test_other_loggers_beside_mlflow(workdir, client):
    assert main([*QUICK, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=csv"]) == 0
    (path,) = workdir.glob("csv/**/metrics.csv")
    with path.open(newline="") as file:
        columns = next(csv.reader(file))
    assert {"train/loss", "test/accuracy", "fan_in/ccv/fc1", "topology/grown/fc1"} <= set(columns)
    assert only_run(client).data.metrics["test/accuracy"] > 0.5


def test_a_class_whose_arguments_are_missing_is_told_whole(workdir, capsys):
    assert main([*QUICK, "--trainer.logger=CSVLogger"]) == 2
    assert "save_dir" in capsys.readouterr().err
    assert main([*QUICK, "--model.lr_scheduler=ReduceLROnPlateau"]) == 2
    assert (
        "torch.optim.lr_scheduler.ReduceLROnPlateau, lightning.pytorch.cli.ReduceLROnPlateau" in capsys.readouterr().err
    )


@pytest.mark.parametrize("arguments", [["--trainer.val_check_interval=0.7"], ["--trainer.check_val_every_n_epoch=5"]])
def test_the_final_table_is_of_the_last_weights(arguments, workdir, client, capsys):
    assert main([*QUICK, *arguments]) == 0
    out = capsys.readouterr().out
    run = only_run(client)
    last = client.get_metric_history(run.info.run_id, "test/accuracy")[-1]
    assert f"{last.value:.4f}" in out
    assert last.step == client.get_metric_history(run.info.run_id, "fan_in/ccv")[-1].step + 1
    assert isinstance(run, mlflow.entities.Run)
