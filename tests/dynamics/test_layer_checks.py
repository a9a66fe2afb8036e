"""Layers that a rule cannot update."""

import pytest

from psn_lightning.dynamics import MagnitudePruningRule, RigLRule, check_layers
from psn_lightning.errors import SettingError
from tests.helpers.loops import Loop


def test_layers_that_a_rule_cannot_work_on_are_refused():
    loop = Loop()
    with pytest.raises(SettingError, match=r"fc1: .*final_sparsity 0\.1"):
        check_layers(loop.layers, MagnitudePruningRule(0.1))
    counts = check_layers(loop.layers, RigLRule())
    assert counts == {name: int(mask.sum()) for name, mask in loop.masks().items()}
