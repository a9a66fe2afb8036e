"""A user exports a checkpoint."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from psn_lightning import load_sparse
from psn_lightning.cli import main
from psn_lightning.data import Digits
from tests.conftest import CONF, QUIET

FIT = ["fit", "--config", str(CONF / "quickstart.yaml"), *QUIET, "--trainer.max_epochs=2"]


def test_the_newest_run_by_word_and_by_path(workdir, client, capsys):
    assert main(FIT) == 0
    capsys.readouterr()
    assert main(["export", "last"]) == 0
    assert "model.pt2" in capsys.readouterr().out
    (path,) = (workdir / "mlruns").glob("*/*/checkpoints/last.ckpt")
    assert main(["export", str(path), "--format", "safetensors", "--out", "out/net.safetensors"]) == 0
    data = Digits()
    data.setup()
    x, labels = next(iter(data.predict_dataloader()))
    logits = torch.export.load("model.pt2").module()(x)
    assert (logits.argmax(1) == labels).float().mean() > 0.7
    weights = load_sparse("out/net.safetensors")
    masks = torch.load(path, weights_only=True)["state_dict"]
    for i in (1, 2):
        assert (weights[f"network.fc{i}.weight"] != 0).sum() == len(masks[f"network.fc{i}.values"])


def test_any_lightning_module(workdir, client, monkeypatch):
    assert main(["init"]) == 0
    monkeypatch.syspath_prepend(workdir)
    assert main(["fit", "--config", "starter.yaml", *QUIET, "--trainer.max_epochs=1"]) == 0
    assert main(["export", "best", "--format", "dense", "--out", "net.pt"]) == 0
    import starter

    starter.Starter().load_state_dict(torch.load("net.pt", weights_only=True))


def test_a_folder_for_the_hub(workdir, client, monkeypatch):
    from psn_lightning.export.hub import HubMLP

    shutil.copy("mlruns/mlflow.db", "other.db")  # a store without the run
    assert main(FIT) == 0
    assert main(["export", "best", "--format", "hub", "--out", "net"]) == 0
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (path,) = (workdir / "mlruns").glob("*/*/checkpoints/best.ckpt")
    best = torch.load(path, weights_only=True)
    history = client.get_metric_history(run.info.run_id, "test/accuracy")
    (value,) = [metric.value for metric in history if metric.step == best["global_step"] - 1]
    card = Path("net/README.md").read_text()
    assert f"| `test/accuracy` | {value:.4f} |" in card
    for fact in ("RigL", "Digits", "42", f"{best['global_step']:,}", run.info.run_id):
        assert f"| {fact} |" in card
    assert "sparsity/realised" not in card
    (config,) = re.findall("```yaml\n(.*)```", card, re.DOTALL)
    assert yaml.safe_load(config)["model"]["sparsity"] == 0.9
    assert HubMLP.from_pretrained("net")(torch.zeros(2, 64)).shape == (2, 10)
    for store in ("other", "none"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}.db")
        with pytest.warns(UserWarning, match="no metrics"):
            assert main(["export", str(path), "--format", "hub", "--out", store]) == 0
        assert "| RigL |" in Path(store, "README.md").read_text()
    assert not Path("none.db").exists()


def test_a_package_that_is_missing(workdir, capsys, monkeypatch):
    monkeypatch.setattr("psn_lightning.commands.export.find_spec", lambda name: None)
    assert main(["export", "last", "--format", "hub"]) == 2
    assert "psn_lightning[hub]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nothing.ckpt"], "nothing.ckpt"),
        (["last"], "no training run"),
        (["last", "--format", "pickle"], "pickle"),
        (["foreign.ckpt"], "export_model"),
        ([], "CKPT"),
        (["last", "--out", "folder"], "folder is a folder"),
        (["last", "--format", "hub", "--out", "folder"], "folder exists"),
        (["last", "--out", "foreign.ckpt/m.pt2"], "foreign.ckpt is a file"),
    ],
)
def test_what_a_user_gets_wrong(arguments, named, workdir, client, capsys):
    torch.save({"state_dict": {}, "global_step": 1}, "foreign.ckpt")
    (workdir / "folder").mkdir()
    assert main(["export", *arguments]) == 2
    assert named in capsys.readouterr().err
