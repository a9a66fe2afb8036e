import random

import numpy as np
import torch

from psn_lightning.checkpoints.generators import get_generator_states, set_generator_states

CPU = torch.device("cpu")


def draw():
    return [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss()]  # noqa: NPY002


def test_all_three_generators_are_taken_back(tmp_path):
    random.gauss()  # leaves a second number waiting
    torch.save(get_generator_states(CPU), tmp_path / "states.pt")
    expected = draw()
    draw()
    set_generator_states(torch.load(tmp_path / "states.pt", weights_only=True), CPU)
    assert draw() == expected


def test_a_cpu_run_asks_no_gpu(monkeypatch):
    """Every question to CUDA takes half a gigabyte of the first GPU."""
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: (_ for _ in ()).throw(AssertionError("asked")))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    set_generator_states(get_generator_states(CPU), CPU)
