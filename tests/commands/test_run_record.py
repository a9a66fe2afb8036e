"""Record of a fit in MLflow: metrics, params, tags and artifacts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from psn_lightning.checkpoints.flat import flatten
from psn_lightning.cli import main
from psn_lightning.commands.run_record import _describe_devices
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Connectivity
from tests.conftest import QUIET

PER_LAYER = [
    "sparsity/realised", "fan_in/ccv", "fan_in/min", "fan_in/max", "fan_out/ccv",
    "topology/dead_neurons", "topology/dead_inputs", "topology/overlap_with_initial", "topology/grown",
    "topology/explored", "gradient/ratio", "gradient/ratio_active",
    "equilibrium/trajectory", "equilibrium/ccv", "equilibrium/drift", "equilibrium/converged",
]  # fmt: skip
WHOLE = [
    "train/loss", "test/accuracy", "test/loss", "sparsity/realised", "fan_in/ccv", "gradient/ratio",
    "time/epoch_seconds", "topology/update_fraction", "cost/connections", "cost/density", "cost/flops",
]  # fmt: skip


def test_metrics_params_tags_and_artifacts(fit, client, workdir):
    run = fit("--trainer.max_epochs=3")
    assert run.info.status == "FINISHED"
    assert set(run.data.metrics) == {*WHOLE, *(f"{m}/{layer}" for m in PER_LAYER for layer in ("fc1", "fc2"))}
    history = client.get_metric_history(run.info.run_id, "sparsity/realised")
    assert len(history) == 4  # the start, and three epochs
    assert np.ptp([m.value for m in history]) < 1e-6
    assert len(client.get_metric_history(run.info.run_id, "test/accuracy")) == 3

    assert run.data.params["model.sparsity"] == "0.9"
    assert run.data.params["trainer.callbacks.0.init_args.period"] == "20"
    assert {"dataset.name", "dataset.digest", "dataset.completeness", "version.torch", "machine"} <= set(run.data.tags)
    assert (run.data.tags["world_size"], run.data.tags["precision"]) == ("1", "32-true")

    assert run.data.tags["stage"] == "fit"

    path = client.download_artifacts(run.info.run_id, "", str(workdir / "got"))
    got = {str(p.relative_to(path)) for p in (workdir / "got").rglob("*") if p.is_file()}
    assert got == {
        "config.yaml", "fan_in_before_after.png", "equilibrium.png", "connectivity/fc1.npz", "connectivity/fc2.npz",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt",
    }  # fmt: skip
    task = SparseClassifier.load_from_checkpoint(
        workdir / "got/checkpoints/last.ckpt", n_features=64, n_classes=10, weights_only=True
    )
    for name, connectivity in task.network.connectivities().items():
        assert Connectivity.load(workdir / f"got/connectivity/{name}.npz") == connectivity


def test_the_logged_config_repeats_the_run(fit, client, workdir):
    run = fit("--trainer.max_epochs=2", "--model.sparsity=0.8", "--seed_everything=7")
    config = client.download_artifacts(run.info.run_id, "config.yaml", str(workdir))
    assert main(["fit", "--config", config, *QUIET]) == 0
    runs = client.search_runs([run.info.experiment_id])
    assert len(runs) == 2
    first, second = (r.data.metrics for r in runs)
    timeless = set(first) - {"time/epoch_seconds"}
    assert {k: first[k] for k in timeless} == {k: second[k] for k in timeless}
    assert yaml.safe_load((workdir / "config.yaml").read_text())["seed_everything"] == 7


def test_with_a_validation_split_the_test_set_is_used_once(fit, client):
    run = fit("--trainer.max_epochs=3", "--data.init_args.val_fraction=0.2")
    histories = {k: client.get_metric_history(run.info.run_id, k) for k in ("val/accuracy", "test/accuracy")}
    assert [len(h) for h in histories.values()] == [3, 1]
    assert run.info.status == "FINISHED"


@pytest.mark.parametrize(
    ("storage", "keys"), [("masked", ["weight", "weight_mask"]), ("csr", ["values", "indptr", "indices"])]
)
def test_moments_and_masks_are_in_the_checkpoint(storage, keys, fit, client, workdir):
    run = fit("--trainer.max_epochs=1", f"--model.storage={storage}")
    path = client.download_artifacts(run.info.run_id, "checkpoints/last.ckpt", str(workdir))
    checkpoint = torch.load(path, weights_only=True)
    assert {f"network.fc1.{key}" for key in keys} <= set(checkpoint["state_dict"])
    assert checkpoint["optimizer_states"][0]["state"]
    assert any("RigL" in key for key in checkpoint["callbacks"])


def test_flatten():
    config = {"a": {"b": 1, "c": [1, 2]}, "d": [{"e": None}], "f": {}, "g": []}
    assert flatten(config) == {"a.b": 1, "a.c": [1, 2], "d.0.e": None, "f": {}, "g": []}


def test_dense_baseline_is_dense(fit):
    run = fit("--trainer.max_epochs=1", "--model.sparsity=0", "--model.topology=Uniform", "--trainer.callbacks=null")
    assert run.data.metrics["sparsity/realised"] == 0
    assert run.data.metrics["fan_in/ccv"] == 0
    assert "topology/update_fraction" not in run.data.metrics
    assert np.isfinite(run.data.metrics["gradient/ratio"])


def test_a_gpu_is_part_of_the_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    strategy = SimpleNamespace(root_device=torch.device("cuda", 0))
    trainer = SimpleNamespace(world_size=4, precision="bf16-mixed", strategy=strategy)
    tags = _describe_devices(trainer)
    assert tags["machine"].endswith(" cores, 4 × NVIDIA H100")
    assert tags["world_size"] == "4"
