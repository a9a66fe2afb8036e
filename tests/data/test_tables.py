import pytest
import torch

from psn_lightning.data import Digits, ForestCover
from tests.conftest import require
from tests.data.making import covertype_lines, write_covertype


def forest(root):
    write_covertype(root / "covertype", covertype_lines())
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
    data = forest(tmp_path)
    data.setup()
    x = data._sets["train"].x
    assert x[:, :10].mean(dim=0).numpy() == pytest.approx(0, abs=1e-5)
    assert x[:, :10].std(dim=0).numpy() == pytest.approx(1, abs=1e-4)
    assert set(x[:, 10:].unique().tolist()) == {0.0, 1.0}
    assert data._sets["test"].x[:, :10].mean(dim=0).abs().max() > 1e-4  # test rows had no say


def test_labels_start_at_zero(tmp_path):
    data = forest(tmp_path)
    data.setup()
    assert set(data._sets["train"].y.tolist()) == set(range(7))


def test_digits_need_no_download():
    data = Digits(download=False)
    data.prepare_data()
    data.setup()
    assert data.description()["dataset.name"] == "Digits"
