"""Connections between correlated inputs."""

import numpy as np
import pytest
import torch

from psn_lightning import sparse_layers, sparsify
from psn_lightning.errors import SettingError
from psn_lightning.pruning import CSTI, Twin, prune
from tests.pruning.networks import batch, mlp


def test_scores_are_tiled_correlations():
    x, y = batch(50)
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    x[:, 4] = 2.0  # constant
    module = mlp((6, 13, 6, 3))
    sparsify(module, 0.0, allocation="uniform")
    scores = CSTI().scores(Twin(module), [(x[:20], y[:20]), (x[20:], y[20:])], torch.Generator())
    with np.errstate(invalid="ignore"):
        correlation = np.nan_to_num(np.abs(np.corrcoef(x.numpy().T)))
    np.fill_diagonal(correlation, 0)
    for name, (n_out, n_in) in {"0": (13, 6), "3": (6, 13)}.items():
        expected = [[correlation[i % 6, j % 6] for j in range(n_in)] for i in range(n_out)]
        np.testing.assert_allclose(scores[name], expected)


def test_each_layer_has_its_share_and_correlated_inputs_meet():
    x, y = batch(200)
    x[:, 1] = x[:, 0] + 0.01 * x[:, 1]
    module = mlp((6, 6, 6, 3))
    prune(module, CSTI(), 0.9, [(x, y)], exclude=["6"])
    masks = {name: layer.mask for name, layer in sparse_layers(module).items()}
    assert [int(mask.sum()) for mask in masks.values()] == [4, 4]
    assert all(mask[0, 1] and mask[1, 0] for mask in masks.values())


def test_a_batch_without_features_is_named():
    with pytest.raises(SettingError, match="not a pair"):
        prune(mlp(), CSTI(), 0.5, [{"x": batch()[0]}])
