"""What a user types, and what they are told when it is wrong."""

import csv
import errno
import os
import sys
from importlib.metadata import entry_points

import lightning.pytorch as pl
import pytest
import torch
import yaml

from psn_lightning.cli import main
from psn_lightning.commands.predictions import PredictionTable
from psn_lightning.data import DATASETS
from psn_lightning.errors import SettingError
from tests.conftest import CONF, QUIET, only_run, require

QUICKSTART = ["--config", str(CONF / "quickstart.yaml")]


def test_help_lists_every_command(capsys):
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"psn-train {command}" in out for command in ("fit", "topology", "data"))


def test_fit_ends_with_a_table_and_the_way_to_mlflow(fit, capsys):
    run = fit("--trainer.max_epochs=1")
    out = capsys.readouterr().out
    for expected in (
        "test accuracy",
        "realised sparsity",
        "fan-in CCV",
        "gradient ratio",
        "seconds per epoch",
        run.info.run_id,
        "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db",
    ):
        assert expected in out


def test_validate_test_and_predict_from_a_checkpoint(fit, client, workdir, capsys):
    run = fit("--trainer.max_epochs=2")
    checkpoint = client.download_artifacts(run.info.run_id, "checkpoints/last.ckpt", str(workdir))
    arguments = [*QUICKSTART, *QUIET, "--ckpt_path", checkpoint]
    for command in ("validate", "test"):
        assert main([command, *arguments]) == 0
        newest = client.search_runs([run.info.experiment_id])[0]
        assert newest.data.metrics["test/accuracy"] == run.data.metrics["test/accuracy"]
    n_runs = len(client.search_runs([run.info.experiment_id]))
    assert main(["predict", *arguments, "--predictions.path", "out/predictions.csv"]) == 0
    with (workdir / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 360
    right = sum(row["predicted"] == row["label"] for row in rows) / 360
    assert right == pytest.approx(run.data.metrics["test/accuracy"], abs=1e-6)
    assert len(client.search_runs([run.info.experiment_id])) == n_runs  # predicting is no run


def test_topology_shows_and_draws_without_training(workdir, capsys):
    assert main(["topology", "--config", str(CONF / "mnist_static.yaml"), "--figure", "shape.png"]) == 0
    out = capsys.readouterr().out
    assert "12 … 247" in out
    assert "0.811" in out
    assert (workdir / "shape.png").read_bytes().startswith(b"\x89PNG")


def test_data_lists_what_is_where(workdir, capsys):
    assert main(["data", "digits"]) == 0
    out = capsys.readouterr().out
    assert "Digits" in out
    assert "complete" in out


def test_data_says_what_is_missing(workdir, capsys, monkeypatch):
    monkeypatch.setenv("PSN_DATA_DIR", str(workdir))
    monkeypatch.setenv("HOME", str(workdir))
    assert main(["data", "mnist"]) == 0
    out = capsys.readouterr().out
    assert "not found" in out
    assert "psn-train data mnist --download" in out


def test_overlays_and_short_names(workdir, capsys):
    (workdir / "overlay.yaml").write_text(
        "model: {sparsity: 0.8, topology: {class_path: Lognormal, init_args: {ccv: 0.7}}}"
    )
    arguments = ["fit", *QUICKSTART, "--config", "overlay.yaml", "--model.lr", "0.01", "--print_config"]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["sparsity"] == 0.8
    assert config["model"]["lr"] == 0.01
    assert config["model"]["topology"] == {"class_path": "psn_lightning.Lognormal", "init_args": {"ccv": 0.7}}
    assert config["data"]["init_args"]["batch_size"] == 64


# What tests/helpers/bad_inputs.py does not have.
BAD = {
    "no data": (["fit"], "data"),
    "ceiling": (["fit", *QUICKSTART, "--model.sparsity=0.999"], "0.998077 of fc1"),
    "no update": (
        [
            "fit",
            *QUICKSTART,
            "--trainer.callbacks=RigL",
            "--trainer.callbacks.begin=99999",
            "--trainer.callbacks.end=9",
        ],
        "no topology update fits",
    ),
    "predict without checkpoint": (["predict", *QUICKSTART], "predict needs a trained network"),
    "accelerator": (["fit", *QUICKSTART, "--trainer.accelerator=abacus"], "abacus"),
    "no end": (["fit", *QUICKSTART, "--trainer.max_epochs=-1", "--trainer.max_time=00:00:00:05"], "end 0.75"),
    "data set": (["data", "cifar"], "'cifar' is not one of"),
    "figure": (["topology", *QUICKSTART, "--figure", "/dev/null/x.png"], "--figure /dev/null/x.png"),
    "figure format": (["topology", *QUICKSTART, "--figure", "x.docx"], "--figure x.docx"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_of_the_user(name, workdir, client, capsys):
    arguments, expected = BAD[name]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    lines = told[told.index("psn-train:") :].strip().splitlines()
    assert len(lines) <= 2
    assert expected in told
    assert "Traceback" not in told
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


def test_missing_data_is_told_before_a_run_begins(workdir, client, capsys, monkeypatch):
    monkeypatch.setenv("PSN_DATA_DIR", str(workdir))
    monkeypatch.setenv("HOME", str(workdir))
    arguments = ["fit", "--config", str(CONF / "mnist_rigl.yaml"), *QUIET, "--data.init_args.download=false"]
    assert main(arguments) == 2
    assert f"{workdir}/MNIST/raw" in capsys.readouterr().err
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


def test_a_damaged_store_is_told(workdir, capsys):
    (workdir / "junk.db").write_text("no database " * 100)
    assert main(["fit", *QUICKSTART, *QUIET, "--tracking.uri=sqlite:///junk.db"]) == 2
    assert "tracking.uri 'sqlite:///junk.db': junk.db is not an SQLite database" in capsys.readouterr().err


def test_a_checkpoint_of_another_network_is_told(fit, client, workdir, capsys):
    run = fit("--trainer.max_epochs=1")
    checkpoint = client.download_artifacts(run.info.run_id, "checkpoints/last.ckpt", str(workdir))
    arguments = ["test", *QUICKSTART, *QUIET, "--ckpt_path", checkpoint]
    assert main([*arguments, "--model.hidden=[30,20]"]) == 2
    assert "model.hidden [30, 20], formerly [256, 256]" in capsys.readouterr().err
    content = torch.load(checkpoint, weights_only=True)
    del content["psn_lightning.origin"]
    torch.save(content, checkpoint)  # as if another program had written it
    assert main([*arguments, "--model.hidden=[30,20]"]) == 2
    assert "the checkpoint does not fit the configured network" in capsys.readouterr().err
    assert main(arguments) == 0


def test_one_damaged_data_set_does_not_hide_the_others(workdir, capsys):
    raw = workdir / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in DATASETS["mnist"].names:
        (raw / name).write_text("junk")
    assert main(["data", "mnist", "digits", "--data_dir", str(workdir)]) == 2
    captured = capsys.readouterr()
    assert "damaged" in captured.out
    assert "Digits" in captured.out
    assert "train-images-idx3-ubyte" in captured.err


def test_logging_and_checkpoints_can_be_turned_off(workdir, client):
    off = ["--trainer.logger=false", "--trainer.enable_checkpointing=false", "--trainer.max_epochs=1"]
    assert main(["fit", *QUICKSTART, *QUIET, *off]) == 0
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []
    assert list(workdir.rglob("*.ckpt")) == []


def test_looking_at_a_topology_opens_no_store_and_takes_a_runs_config(tmp_path, monkeypatch, fit, client, workdir):
    run = fit("--trainer.max_epochs=1")
    config = client.download_artifacts(run.info.run_id, "config.yaml", str(workdir))
    elsewhere = workdir / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["topology", "--config", config, "--figure=shape.svg"]) == 0
    assert [p.name for p in elsewhere.iterdir()] == ["shape.svg"]


def test_predictions_of_several_processes_are_refused():
    trainer = pl.Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    with pytest.raises(SettingError, match="predict runs on one process, not 2"):
        PredictionTable().setup(trainer, pl.LightningModule(), "predict")


def test_debug_shows_the_traceback(workdir):
    with pytest.raises(ValueError, match=r"sparsity 1\.5"):
        main(["fit", *QUICKSTART, "--model.sparsity=1.5", "--debug"])


def test_the_installed_command(workdir, monkeypatch, capsys):
    """The function that the installed script calls; the classes of the working directory are found."""
    (found,) = [point for point in entry_points(group="console_scripts") if point.name == "psn-train"]
    monkeypatch.setattr(sys, "argv", ["psn-train", "fit", "--model.sparsity=2"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    for variable in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(variable, "as it was")
    with pytest.raises(SystemExit) as stopped:
        found.load()()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith("psn-train:")
    assert str(workdir) in sys.path


def test_rigl_keeps_the_sparsity_on_real_images(client):
    require("mnist")
    arguments = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=30", "--trainer.limit_val_batches=1"]
    rigl = ["--trainer.callbacks=RigL", "--trainer.callbacks.period=5"]
    assert main(["fit", "--config", str(CONF / "mnist_rigl.yaml"), *QUIET, *arguments, *rigl]) == 0
    metrics = only_run(client).data.metrics
    assert metrics["sparsity/realised"] == pytest.approx(0.9, abs=0.001)
    assert metrics["topology/overlap_with_initial/fc1"] < 1


@pytest.mark.parametrize(("number", "told"), [(errno.ENOSPC, True), (errno.EACCES, True), (errno.EIO, False)])
def test_a_disk_that_takes_no_more_is_told_and_a_broken_one_is_not_hidden(number, told, monkeypatch, capsys):
    def full(_):
        raise OSError(number, os.strerror(number), "scratch/x")

    monkeypatch.setattr("psn_lightning.commands.data.run", full)
    if told:
        assert main(["data"]) == 2
        assert f"scratch/x cannot be written or read: {os.strerror(number)}" in capsys.readouterr().err
    else:
        with pytest.raises(OSError, match="scratch/x"):
            main(["data"])
