"""Weights near to an isometry, against plain gradient descent and against orthogonal matrices."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.nn import isometry
from psn_lightning.nn.init import initial_values
from psn_lightning.topology import Bernoulli, Connectivity, LayerBudget, Orthogonal, Spread
from tests.topology.drawing import seeds, sizes


def dense(connectivity, values):
    """Matrix of the connections and their weights."""
    matrix = np.zeros((connectivity.n_out, connectivity.n_in))
    matrix[connectivity.mask()] = values
    return matrix


def residual(matrix):
    """‖W Wᵀ − 2 I‖ of the smaller side."""
    matrix = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    return np.linalg.norm(matrix @ matrix.T - 2 * np.eye(len(matrix)))


def make(n_in, n_out, sparsity, seed=0):
    rng = np.random.default_rng(seed)
    connectivity = Spread(Bernoulli()).connect(LayerBudget(n_in, n_out, sparsity), rng)
    return connectivity, dense(connectivity, isometry.isometric_values(connectivity, np.random.default_rng(seed)))


def descend(connectivity, matrix, steps=1000):
    """Plain gradient descent on the residual, as the authors do."""
    mask = connectivity.mask()
    for _ in range(steps):
        gram = matrix @ matrix.T - 2 * np.eye(len(matrix))
        matrix = matrix - 0.1 * np.where(mask, gram @ matrix, 0)
    return matrix


@pytest.mark.parametrize(("n_in", "n_out"), [(60, 40), (40, 60), (50, 50)])
def test_the_residual_is_far_below_that_of_random_weights(n_in, n_out):
    connectivity, matrix = make(n_in, n_out, 0.7)
    drawn = dense(connectivity, initial_values(connectivity, "mean_fan_in", np.random.default_rng(0)))
    assert residual(matrix) < residual(drawn) / 5
    assert np.array_equal(matrix != 0, connectivity.mask())


def test_it_is_as_near_as_a_thousand_steps_of_gradient_descent():
    connectivity, matrix = make(60, 40, 0.8)
    drawn = dense(connectivity, initial_values(connectivity, "mean_fan_in", np.random.default_rng(0)))
    assert residual(matrix) < 1.1 * residual(descend(connectivity, drawn))


def test_the_residual_falls_with_every_step(monkeypatch):
    found = []
    for steps in range(12):
        monkeypatch.setattr(isometry, "_STEPS", steps)
        found.append(residual(make(50, 50, 0.9)[1]))
    assert all(later < earlier for earlier, later in pairwise(found))


def test_where_an_isometry_exists_it_is_found():
    assert residual(make(30, 20, 0.0)[1]) < 1e-10
    exact = Orthogonal(2**0.5).connect(LayerBudget(40, 30, 0.8), np.random.default_rng(3)).connectivity
    values = isometry.isometric_values(exact, np.random.default_rng(0))
    assert residual(dense(exact, values)) < 0.05 * residual(
        dense(exact, initial_values(exact, "mean_fan_in", np.random.default_rng(0)))
    )


@settings(max_examples=30, deadline=None)
@given(n_in=sizes(high=40), n_out=sizes(high=40), share=st.floats(0, 1), seed=seeds)
def test_any_mask_has_finite_weights_that_the_seed_decides(n_in, n_out, share, seed):
    connectivity, matrix = make(n_in, n_out, share * (1 - 1 / n_in), seed)
    assert np.isfinite(matrix).all()
    assert np.array_equal(matrix, make(n_in, n_out, share * (1 - 1 / n_in), seed)[1])
    assert not matrix[~connectivity.mask()].any()


def test_neurons_without_inputs_are_left_alone():
    mask = np.zeros((5, 6), dtype=bool)
    mask[0, :3] = mask[2, 2] = True
    connectivity = Connectivity.from_mask(mask)
    matrix = dense(connectivity, isometry.isometric_values(connectivity, np.random.default_rng(0)))
    assert matrix[0] @ matrix[0] == pytest.approx(2, rel=1e-3)
