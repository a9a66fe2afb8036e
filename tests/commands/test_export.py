"""A user exports a checkpoint."""

import pytest
import torch

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


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nothing.ckpt"], "nothing.ckpt"),
        (["last"], "no training run"),
        (["last", "--format", "pickle"], "pickle"),
        (["foreign.ckpt"], "export_model"),
        ([], "CKPT"),
        (["last", "--out", "folder"], "folder is a folder"),
        (["last", "--out", "foreign.ckpt/m.pt2"], "foreign.ckpt is a file"),
    ],
)
def test_what_a_user_gets_wrong(arguments, named, workdir, client, capsys):
    torch.save({"state_dict": {}, "global_step": 1}, "foreign.ckpt")
    (workdir / "folder").mkdir()
    assert main(["export", *arguments]) == 2
    assert named in capsys.readouterr().err
