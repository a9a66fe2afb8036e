"""A machine with GPUs, as torch states it, and runs to compare."""

import pytest
import torch


@pytest.fixture
def four_gpus(monkeypatch):
    """A machine that says it has four GPUs; nothing may be computed on them."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)


BASE = {"seed_everything": 1, "model.sparsity": 0.9, "model.topology.class_path": "psn_lightning.topology.Uniform"}


@pytest.fixture
def track(client):
    """Function that records a run as a fit does."""
    experiment = client.create_experiment("psn_lightning")

    def record(metrics, status="FINISHED", stage="fit", **params):
        run = client.create_run(experiment, tags={"stage": stage}).info.run_id
        for key, value in {**BASE, **{key.replace("__", "."): value for key, value in params.items()}}.items():
            client.log_param(run, key, value)
        for key, value in metrics.items():
            client.log_metric(run, key, value)
        client.set_terminated(run, status)

    return record


@pytest.fixture
def three_by_two(track):
    for sparsity, accuracies in ((0.9, (0.80, 0.82, 0.84)), (0.95, (0.7, 0.7))):
        for seed, accuracy in enumerate(accuracies):
            track({"test/accuracy": accuracy}, seed_everything=seed, model__sparsity=sparsity)
