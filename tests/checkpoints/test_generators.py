import random

import numpy as np
import torch

from psn_lightning.checkpoints.generators import get_generator_states, set_generator_states


def draw():
    return [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss()]  # noqa: NPY002


def test_all_three_generators_are_taken_back(tmp_path):
    random.gauss()  # leaves a second number waiting
    torch.save(get_generator_states(), tmp_path / "states.pt")
    expected = draw()
    draw()
    set_generator_states(torch.load(tmp_path / "states.pt", weights_only=True))
    assert draw() == expected
