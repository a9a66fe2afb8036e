"""Every kind of layer trains, and the sparse ones have the connections that they are measured for."""

import pytest

from psn_lightning.bench.layers import list_kinds, make_layer, make_pass, measure_layers


@pytest.mark.parametrize("kind", list_kinds(64))
def test_a_pass_leaves_gradients(kind):
    layer = make_layer(kind, 64, 0.9)
    make_pass(layer, 64, 5)()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_sparse_layers_have_the_connections_they_are_measured_for():
    assert 300 < make_layer("csr", 64, 0.9).n_connections < 520
    assert 300 < make_layer("torch csr", 64, 0.9).weight.values().numel() < 520


def test_wide_layers_have_no_dense_matrix():
    assert "dense" not in list_kinds(32768)
    assert "masked" not in list_kinds(16384)


def test_rows_say_what_was_measured():
    rows = list(measure_layers((16,), (2, 3), (0.5,), 0.0))
    assert [row["batch"] for row in rows if row["kind"] == "csr"] == [2, 3]
    assert {row["width"] for row in rows} == {16}


def test_sparsities_that_leave_neurons_without_inputs_are_left_out():
    assert {row["sparsity"] for row in measure_layers((16,), (2,), (0.5, 0.9375, 0.99), 0.0)} == {0.5, 0.9375}
