"""What the libraries do where all scores are equal: docs/equilibrium.md rests on it."""

import numpy as np
import pytest
import torch

ROWS, COLUMNS = 256, 196

HIGHEST = {
    "torch.topk": lambda scores, k: scores.topk(k).indices,
    "torch.sort": lambda scores, k: scores.sort(descending=True).indices[:k],
    "torch.argsort": lambda scores, k: scores.argsort(descending=True)[:k],
    "numpy.argsort": lambda scores, k: torch.from_numpy(np.argsort(-scores.numpy())[:k].copy()),
    "numpy.argpartition": lambda scores, k: torch.from_numpy(np.argpartition(-scores.numpy(), k)[:k].copy()),
}


@pytest.mark.parametrize("name", HIGHEST)
def test_the_highest_of_equal_scores_lie_in_few_rows(name):
    """Of a layer at 90% a share of 3% is grown: scores of absent connections are 0, of present ones −1."""
    mask = torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)) < 0.1
    scores = -mask.flatten().to(torch.float32)
    k = int(0.03 * scores.numel())
    chosen = HIGHEST[name](scores, k)
    assert not mask.flatten()[chosen].any()
    rows = len(torch.unique(chosen // COLUMNS))
    needed = k / (0.9 * COLUMNS)
    assert rows <= 1.5 * needed + 2  # chosen at random they lie in all of them
