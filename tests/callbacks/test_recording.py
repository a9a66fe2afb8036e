import lightning.pytorch as pl
import pytest

from psn_lightning.callbacks import EpochTimer, RigL, TopologyLogger
from psn_lightning.checkpoints import BestAndLast
from psn_lightning.data import Digits
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Bernoulli
from psn_lightning.topology.statistics import overlap, summarize
from tests.helpers.models import ACCELERATOR


@pytest.fixture
def finished(tmp_path):
    recorder = TopologyLogger()
    task = SparseClassifier(64, 10, hidden=[48, 32], topology=Bernoulli(), sparsity=0.8)
    first = task.network.connectivities()
    trainer = pl.Trainer(
        max_epochs=2,
        callbacks=[RigL(period=5), recorder, EpochTimer(), BestAndLast()],
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator=ACCELERATOR,
        devices=1,
    )
    trainer.fit(task, Digits())
    return trainer, task, recorder, first


def test_figures_are_those_of_the_final_masks(finished):
    trainer, task, _, first = finished
    logged = {k: float(v) for k, v in trainer.callback_metrics.items()}
    for name, connectivity in task.network.connectivities().items():
        figures = summarize(connectivity)
        assert logged[f"fan_in/ccv/{name}"] == pytest.approx(figures.fan_in_ccv)
        assert logged[f"fan_in/min/{name}"] == figures.fan_in_min
        assert logged[f"fan_in/max/{name}"] == figures.fan_in_max
        assert logged[f"sparsity/realised/{name}"] == pytest.approx(figures.sparsity)
        assert logged[f"topology/dead_neurons/{name}"] == figures.dead_neurons
        assert logged[f"topology/dead_inputs/{name}"] == (~connectivity.mask().any(axis=0)).sum()
        per_input = connectivity.mask().sum(axis=0)
        assert logged[f"fan_out/ccv/{name}"] == pytest.approx(per_input.std() / per_input.mean())
        moved = logged[f"topology/overlap_with_initial/{name}"]
        assert moved == pytest.approx(overlap(first[name], connectivity))
        assert moved < 1
    assert logged["time/epoch_seconds"] > 0
    assert logged["sparsity/realised"] == pytest.approx(0.8, abs=0.02)


def test_the_first_topology_survives_a_checkpoint(finished):
    _, _, recorder, first = finished
    other = TopologyLogger()
    other.load_state_dict(recorder.state_dict())
    assert other.initial == first


def test_best_and_last_checkpoints(finished):
    trainer, task, _, _ = finished
    checkpoints = trainer.checkpoint_callback
    assert checkpoints.monitor == "test/accuracy"
    again = SparseClassifier.load_from_checkpoint(checkpoints.last_model_path)
    assert again.network.connectivities() == task.network.connectivities()
    assert checkpoints.best_model_path.endswith("best.ckpt")
