"""The storage that the Trainer leads to."""

import pytest

from psn_lightning.cli import main
from psn_lightning.commands.lightning_cli import PSNCLI
from psn_lightning.task import SparseClassifier
from tests.conftest import CONF, QUIET


def test_csr_beside_a_gpu_is_refused_before_anything_is_built(four_gpus, workdir, capsys):
    """The machine has GPUs and the run would use one."""
    before = sorted(workdir.rglob("*"))
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), "--model.storage=csr"]) == 2
    assert "set trainer.accelerator to cpu, or model.storage to masked" in capsys.readouterr().err
    assert sorted(workdir.rglob("*")) == before


@pytest.mark.parametrize(("accelerator", "storage"), [("cpu", "csr"), ("auto", "masked")])
def test_auto_asks_what_the_run_uses_and_not_the_machine(four_gpus, monkeypatch, workdir, accelerator, storage):
    arguments = ["--config", str(CONF / "quickstart.yaml"), f"--trainer.accelerator={accelerator}", *QUIET]
    found = []
    monkeypatch.setattr(PSNCLI, "instantiate_classes", lambda cli: found.append(cli.config["fit.model.storage"]))
    monkeypatch.setattr(PSNCLI, "_run_subcommand", lambda *_: None)
    PSNCLI(["fit", *arguments])
    # Left at auto the model decides when it is made, by the machine, which has a GPU: masked.
    assert found == [{"csr": "csr", "masked": "auto"}[storage]]


class Fixed(SparseClassifier):
    """A subclass that takes no sparsity."""

    def __init__(self, n_features: int, n_classes: int, storage: str = "auto", seed: int = 42, **arguments: str):
        super().__init__(n_features, n_classes, storage=storage, seed=seed, sparsity=0.9, **arguments)


@pytest.mark.parametrize(("strategy", "storage"), [("auto", "auto"), ("ddp", "masked")])
def test_a_subclass_need_not_have_a_sparsity(monkeypatch, workdir, strategy, storage):
    found = []
    key = "fit.model.init_args.storage"
    monkeypatch.setattr(PSNCLI, "instantiate_classes", lambda cli: found.append(cli.config[key]))
    monkeypatch.setattr(PSNCLI, "_run_subcommand", lambda *_: None)
    PSNCLI(["fit", f"--model={__name__}.Fixed", "--data=Digits", f"--trainer.strategy={strategy}", *QUIET])
    assert found == [storage]
