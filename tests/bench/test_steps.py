"""Steps and updates of the measured network."""

import torch

from psn_lightning.bench.steps import PARTS, Job, measure_parts, measure_steps, measure_updates

SIZES = (16, 20, 20, 3)


def test_an_update_moves_connections_and_a_step_does_not():
    job = Job("csr", 0.7, SIZES)
    before = [layer.active_positions() for layer in job.layers.values()]
    job.step()
    assert all(torch.equal(a, layer.active_positions()) for a, layer in zip(before, job.layers.values(), strict=True))
    job.update()
    after = [layer.active_positions() for layer in job.layers.values()]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert [len(a) for a in before] == [len(a) for a in after]


def test_a_dense_job_has_no_absent_connection():
    assert all(layer.mask.all() for layer in Job(None, 0.9, SIZES).layers.values())


def test_rows_say_what_was_measured(monkeypatch):
    monkeypatch.setattr("psn_lightning.bench.steps.SIZES", SIZES)
    monkeypatch.setattr(Job.__init__, "__defaults__", (SIZES,))
    steps = list(measure_steps((0.7,), 0.0))
    assert [(row["kind"], row["sparsity"]) for row in steps] == [("csr", 0.7), ("masked", 0.9), ("dense", 0.0)]
    updates = list(measure_updates((0.7,), 0.0))
    assert [(row["kind"], row["what"]) for row in updates if row["kind"] == "csr"] == [
        ("csr", "step"),
        ("csr", "update and step"),
    ]
    parts = list(measure_parts((0.7,), 10))
    assert [row["what"] for row in parts] == list(PARTS)
    assert all(row["n"] == 9 and row["median"] > 0 for row in parts)
