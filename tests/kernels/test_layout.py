"""A batch becomes tiles and a batch again."""

import numpy as np
import pytest

from psn_lightning.kernels.layout import pack_tile, unpack_tile


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_rows", "n", "width"), [(64, 16, 64), (100, 37, 64), (5, 3, 16), (40, 65, 32), (1, 1, 16)])
def test_tiles_are_the_transposed_rows_and_the_batch_comes_back(n_rows, n, width, dtype):
    batch = np.random.default_rng(0).random((n_rows, n)).astype(dtype)
    back = np.full_like(batch, -1)
    for row in range(0, n_rows, width):
        tile = np.full((n, width), -1, dtype)
        pack_tile(batch, row, tile)
        count = min(width, n_rows - row)
        assert np.array_equal(tile[:, :count], batch[row : row + count].T)
        assert not tile[:, count:].any()
        unpack_tile(tile, back, row)
    assert np.array_equal(back, batch)
