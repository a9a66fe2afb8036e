import gzip

import numpy as np
import pytest
import torch

from psn_lightning.data import Digits, ForestCover
from psn_lightning.errors import SettingError
from tests.conftest import require


def write_covertype(root, n=200, columns=55, change=None):
    rng = np.random.default_rng(0)
    table = np.column_stack(
        [rng.integers(0, 3000, (n, 10)), rng.integers(0, 2, (n, columns - 11)), np.arange(n) % 7 + 1]
    )
    lines = [",".join(map(str, row)) for row in table.tolist()]
    if change:
        lines = change(lines)
    folder = root / "covertype"
    folder.mkdir(parents=True)
    (folder / "covtype.data.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return ForestCover(data_dir=str(root), download=False)


def test_real_covertype():
    require("forest")
    data = ForestCover(download=False)
    data.setup()
    found = data.description()
    train, test = data._sets["train"], data._sets["test"]
    assert len(test) == pytest.approx(0.2 * (len(train) + len(test)), abs=1)
    assert found["dataset.name"] in {"Covertype", "Covertype 177k subset"}
    shares = [torch.bincount(s.y) / len(s) for s in (train, test)]
    assert shares[0].numpy() == pytest.approx(shares[1].numpy(), abs=1e-3)


def test_only_the_continuous_columns_are_standardised(tmp_path):
    data = write_covertype(tmp_path)
    data.setup()
    x = data._sets["train"].x
    assert x[:, :10].mean(dim=0).numpy() == pytest.approx(0, abs=1e-5)
    assert x[:, :10].std(dim=0).numpy() == pytest.approx(1, abs=1e-4)
    assert set(x[:, 10:].unique().tolist()) == {0.0, 1.0}
    assert data._sets["test"].x[:, :10].mean(dim=0).abs().max() > 1e-4  # test rows had no say


def test_labels_start_at_zero(tmp_path):
    data = write_covertype(tmp_path)
    data.setup()
    assert set(data._sets["train"].y.tolist()) == set(range(7))


@pytest.mark.parametrize(
    ("columns", "change", "message"),
    [
        (54, None, "54 columns, expected 55"),
        (55, lambda lines: [*lines, ",".join(["x"] * 55)], "cannot be read"),
        (55, lambda lines: [*lines, ",".join(["nan"] * 55)], "missing or infinite"),
        (55, lambda lines: [*lines, "1,2,3"], "missing or infinite|cannot be read"),
        (55, lambda lines: [line[:-1] + "9" for line in lines], "labels outside 0 … 6"),
    ],
)
def test_damaged_tables(tmp_path, columns, change, message):
    with pytest.raises(SettingError, match=message):
        write_covertype(tmp_path, columns=columns, change=change).setup()


@pytest.mark.parametrize(
    "content", [b"not gzip", gzip.compress(b"1,2\n" * 5000)[:-20], b""], ids=["text", "cut", "empty"]
)
def test_damaged_gzip(tmp_path, content):
    data = write_covertype(tmp_path)
    (tmp_path / "covertype" / "covtype.data.gz").write_bytes(content)
    with pytest.raises(SettingError, match=r"covtype\.data\.gz"):
        data.setup()


def test_digits_need_no_download():
    data = Digits(download=False)
    data.prepare_data()
    data.setup()
    assert data.description()["dataset.name"] == "Digits"
