"""The table of sparse layers."""

import pytest
from torch import nn

from psn_lightning.nn import LayerRow, SparsityTable, describe


def test_rows_and_sum():
    rows = (
        LayerRow("conv", (8, 3, 3, 3), "masked", 54, 216, 0.5),
        LayerRow("fc", (10, 1000), "csr", 1000, 10_000, 0.0),
    )
    table = SparsityTable(rows)
    assert table["fc"].density == 0.1
    assert table.sparsity == pytest.approx(1 - 1054 / 10_216)
    assert [row.name for row in table] == ["conv", "fc"]
    assert len(table) == 2
    lines = str(table).splitlines()
    assert len({line.rstrip() for line in lines}) == 5  # head, a rule twice, two rows, the sum
    assert lines[2].split() == ["conv", "8", "×", "3", "×", "3", "×", "3", "masked", "25.00%", "54", "0.500"]
    assert lines[-1].split() == ["2", "layers", "10,216", "10.32%", "1,054"]
    assert all(line == line.rstrip() for line in lines)


def test_a_dense_module_has_an_empty_one():
    table = describe(nn.Linear(2, 2))
    assert table.sparsity == 0
    assert len(table) == 0
    assert "0 layers" in str(table)
