"""Every candidate trains, with the connections of its topology."""

import pytest

from psn_lightning.bench.groups import list_candidates, make_module, measure_groups
from psn_lightning.bench.layers import make_pass
from psn_lightning.bench.tables import write_groups
from psn_lightning.nn import describe


@pytest.mark.parametrize("name", list_candidates())
def test_a_pass_leaves_gradients_in_the_named_storage(name):
    storage, topology = list_candidates()[name]
    module = make_module((storage, topology), (64, 128, 64), 0.875)
    make_pass(module, 64, 5)()
    assert all(parameter.grad is not None for parameter in module.parameters())
    rows = list(describe(module))
    assert {row.storage for row in rows} == ({storage} if storage else set())
    assert all(row.connections < 0.2 * row.positions for row in rows)


def test_rows_make_one_line_for_each_module(monkeypatch):
    monkeypatch.setattr("psn_lightning.bench.groups._BLOCK", (64, 128, 64))
    monkeypatch.setattr("psn_lightning.bench.groups._TOKENS", 1)
    rows = list(measure_groups((64,), (2, 3), (0.875,), 0.0))
    table = [line for line in write_groups(rows).splitlines() if line.startswith("|")][2:]
    assert [line.split("|")[1].strip() for line in table] == ["64–64", "64–64", "64–128–64"]
