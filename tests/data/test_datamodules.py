"""The real sets where they are on this machine, and small files of the same format where content matters."""

import inspect

import pytest
import torch

from psn_lightning.data import DATASETS, MNIST, ClassificationData, Digits, EMNISTBalanced, ForestCover
from psn_lightning.data.datamodules import IdxImages, TabularData
from psn_lightning.errors import SettingError
from tests.conftest import require
from tests.data.making import covertype_lines, idx, replace_column, write_covertype, write_idx


@pytest.mark.parametrize("base", [ClassificationData, IdxImages, TabularData])
def test_base_classes_are_abstract(base):
    assert inspect.isabstract(base)  # the command line does not offer them
    with pytest.raises(TypeError, match="abstract"):
        base()


@pytest.mark.parametrize(("name", "mean", "std"), [("mnist", 0.1307, 0.3081), ("fashion", 0.2860, 0.3530)])
def test_real_sets_are_complete_with_known_statistics(name, mean, std):
    require(name)
    data = DATASETS[name](download=False)
    rows = data.load(data.locate())
    assert (len(rows.train_y), len(rows.test_y)) == (60_000, 10_000)
    found_mean, found_std = data.normalization(data.features(rows.train_x))
    assert found_mean.item() == pytest.approx(mean, abs=1e-4)
    assert found_std.item() == pytest.approx(std, abs=1e-4)
    data.setup()
    assert data.description()["dataset.completeness"] == "complete"


def test_real_emnist_is_upright_and_named_honestly():
    require("emnist")
    data = EMNISTBalanced(download=False)
    data.setup()
    found = data.description()
    if found["dataset.completeness"] == "subset":
        assert found["dataset.name"].startswith("EMNIST-47 subset")
    # Letters and digits are taller than wide: upright images spread over more rows than columns.
    images = (data._sets["test"].x > 0).view(-1, 28, 28)
    assert images.any(dim=2).sum(dim=1).float().mean() > images.any(dim=1).sum(dim=1).float().mean()


def test_real_covertype():
    require("forest")
    data = ForestCover(download=False)
    data.setup()
    train, test = data._sets["train"], data._sets["test"]
    assert len(test) == pytest.approx(0.2 * (len(train) + len(test)), abs=1)
    assert data.description()["dataset.name"] in {"Covertype", "Covertype 177k subset"}
    shares = [torch.bincount(s.y) / len(s) for s in (train, test)]
    assert shares[0].numpy() == pytest.approx(shares[1].numpy(), abs=1e-3)


def test_sizes_are_read_never_assumed(tmp_path):
    write_idx(tmp_path / MNIST.folder, MNIST.names, gz=True)
    data = MNIST(data_dir=str(tmp_path), download=False)
    data.setup()
    found = data.description()
    assert found["dataset.rows"] == "train 30, val 0, test 10"
    assert found["dataset.name"] == MNIST().subset_title(40)


def test_white_images_cannot_be_normalised(tmp_path):
    write_idx(tmp_path / MNIST.folder, MNIST.names)
    (tmp_path / MNIST.folder / MNIST.names[0]).write_bytes(idx(torch.full((30, 28, 28), 255).numpy()))
    with pytest.raises(SettingError, match="deviation 0") as caught:
        MNIST(data_dir=str(tmp_path)).setup()
    assert str(tmp_path / MNIST.folder) in str(caught.value)


def forest(root, lines):
    write_covertype(root / "covertype", lines)
    return ForestCover(data_dir=str(root), download=False)


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (replace_column(3, "7"), "mean 7 .* of column 4"),
        (replace_column(0, "1e38", "2e38"), "inf"),
        (covertype_lines(7), "covtype.data.gz.* 7 rows"),
    ],
)
def test_tables_that_cannot_be_split_or_normalised(tmp_path, lines, value):
    with pytest.raises(SettingError, match=value) as caught:
        forest(tmp_path, lines).setup()
    assert str(tmp_path / "covertype") in str(caught.value)


def test_only_the_continuous_columns_are_standardised(tmp_path):
    data = forest(tmp_path, covertype_lines())
    data.setup()
    x = data._sets["train"].x
    assert x[:, :10].mean(dim=0).numpy() == pytest.approx(0, abs=1e-5)
    assert x[:, :10].std(dim=0).numpy() == pytest.approx(1, abs=1e-4)
    assert set(x[:, 10:].unique().tolist()) == {0.0, 1.0}
    assert data._sets["test"].x[:, :10].mean(dim=0).abs().max() > 1e-4  # test rows are not counted
    assert set(data._sets["train"].y.tolist()) == set(range(7))


def test_digits_need_no_download(monkeypatch):
    monkeypatch.delenv("PSN_DATA_DIR", raising=False)
    data = Digits(download=False)
    data.prepare_data()
    data.setup()
    assert data.description()["dataset.name"] == "Digits"
    assert data.description()["dataset.completeness"] == "complete"
