"""A hook that follows a parameter which is replaced."""

import copy
import pickle

import pytest
import torch
from torch import nn

from psn_lightning.nn.parameter_hook import ParameterHook


class Counter:
    def __init__(self):
        self.calls = 0
        self.hook = ParameterHook(self.count)

    def count(self, gradient):
        self.calls += 1


def parameter():
    return nn.Parameter(torch.ones(3))


def test_it_is_registered_once_on_each_parameter():
    counter, first, second = Counter(), parameter(), parameter()
    for held in (first, first, second):
        counter.hook.attach(held)
    first.sum().backward()
    assert counter.calls == 1
    second.sum().backward()
    assert counter.calls == 2
    counter.hook.remove()
    second.sum().backward()
    assert counter.calls == 2


def test_a_frozen_parameter_is_hooked_for_the_day_on_which_it_is_trained():
    counter, held = Counter(), parameter().requires_grad_(False)
    counter.hook.attach(held)
    assert not held.requires_grad
    held.requires_grad_()
    held.sum().backward()
    held.requires_grad_(False)
    held.requires_grad_()
    held.sum().backward()
    assert counter.calls == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda counter: pickle.loads(pickle.dumps(counter))])
def test_a_copy_begins_without_a_parameter_and_calls_its_own_object(copied):
    counter, held = Counter(), parameter()
    counter.hook.attach(held)
    other = copied(counter)
    other.hook.remove()
    other.hook.attach(held)
    held.sum().backward()
    assert (counter.calls, other.calls) == (1, 1)
