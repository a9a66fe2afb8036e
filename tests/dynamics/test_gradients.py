"""Whether an optimizer has a step to make."""

import math

import pytest
import torch

from psn_lightning.dynamics.gradients import are_gradients_finite, list_gradients
from psn_lightning.nn.torch_private import hold_steps

LARGEST = torch.finfo(torch.float32).max


def optimizer(*gradients):
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient)
    return torch.optim.SGD(parameters, lr=0.1)


@pytest.mark.parametrize(
    ("gradients", "finite"),
    [
        ([[1.0, 2.0], None], True),
        ([[1.0, 2.0], [0.0, math.nan]], False),
        ([[1.0, -math.inf]], False),
        ([[LARGEST, LARGEST], [1.0, 1.0]], True),  # whose sum overflows
        ([None], True),
    ],
)
def test_gradients_that_are_finite(gradients, finite):
    held = optimizer(*gradients)
    assert len(list_gradients(held)) == sum(gradient is not None for gradient in gradients)
    assert are_gradients_finite(held) is finite


def test_a_step_that_is_held_back_is_none():
    held = optimizer([1.0, 2.0])
    hold_steps(held, torch.tensor(1.0))
    assert not are_gradients_finite(held)
    hold_steps(held, None)
    assert are_gradients_finite(held)
