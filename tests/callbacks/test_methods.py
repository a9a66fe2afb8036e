"""Arguments of the published methods reach rule and schedule."""

import inspect
from collections import OrderedDict

import pytest
from torch import nn

from psn_lightning.callbacks import (
    ACDC,
    CHT,
    GMP,
    GSE,
    MEST,
    SET,
    CHTs,
    CHTss,
    DynamicTopology,
    GraNet,
    RigL,
    Sparsify,
    SRigL,
)
from psn_lightning.errors import SettingError
from tests.helpers.models import Plain, batches, trainer

OTHERS = {
    "drop_fraction": 0.17,
    "period": 7,
    "begin": 3,
    "end": 99,
    "skip_step_on_update": False,
    "layers": ["fc2"],
    "seed": 5,
    "gamma_sal": 0.6,
    "final_sparsity": 0.77,
    "until": 0.9,
    "gradient_weight": 0.5,
    "soft": True,
    "score": "CH3-L3n",
    "chains": [["fc1", "fc2"]],
    "stop_overlap": 0.4,
    "removal": "importance",
    "temperature": 2.5,
    "candidates": 3.0,
    "distribution": "graest",
}
METHODS = [GSE, RigL, SRigL, SET, MEST, GMP, GraNet, ACDC, CHT, CHTs, CHTss]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_every_argument_has_its_place(method):
    names = list(inspect.signature(method).parameters)
    given = {name: OTHERS[name] for name in names}
    if method is CHTss:
        given["removal"] = "magnitude"  # the other one is the default
    callback = method(**given)
    assert isinstance(callback, DynamicTopology)
    for name, value in given.items():
        holders = [part for part in (callback, callback.rule, callback.schedule) if name in vars(part)]
        assert holders, name
        assert all(getattr(holder, name) == value for holder in holders), name
    defaults = {name: parameter.default for name, parameter in inspect.signature(method).parameters.items()}
    assert all(defaults[name] != value for name, value in given.items() if name != "skip_step_on_update")


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_period_out_of_range_is_refused(method):
    with pytest.raises(SettingError, match="period"):
        method(period=0)


def test_chains_are_found_anew_for_another_module():
    method = CHT(period=2)
    for widths in ((8, 8, 8), (8, 6, 8)):
        parts = [nn.Linear(16, widths[0]), nn.ReLU(), nn.Linear(widths[0], widths[1]), nn.ReLU(), nn.Flatten()]
        names = [f"l{i}_{widths[1]}" for i in range(len(parts))]
        net = nn.Sequential(OrderedDict([*zip(names, parts, strict=True), ("head", nn.Linear(5 * widths[1], 3))]))
        trainer(Sparsify(0.5, print_table=False), method, max_steps=4, max_epochs=-1).fit(
            Plain(net), batches("transformer")
        )
        assert method.rule.chains[0][0] == f"net.l0_{widths[1]}"
