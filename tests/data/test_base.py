from dataclasses import replace
from hashlib import md5

import pytest
import torch

from psn_lightning.data import MNIST, Digits
from psn_lightning.errors import SettingError
from tests.data.making import write_idx


def ready(**arguments):
    data = Digits(**arguments)
    data.prepare_data()
    data.setup()
    return data


def test_batches_come_whole_and_cover_every_row_once():
    data = ready(batch_size=100)
    batches = list(data.train_dataloader())
    assert [len(y) for _, y in batches] == [100] * 14 + [37]
    x = torch.cat([x for x, _ in batches])
    everything = data._sets["train"].x
    assert torch.equal(x.sort(dim=0).values, everything.sort(dim=0).values)
    assert not torch.equal(x, everything)  # shuffled


def test_normalised_by_the_training_rows():
    whole, part = ready(), ready(val_fraction=0.3)
    for data in (whole, part):
        x = data._sets["train"].x
        assert x.mean().item() == pytest.approx(0, abs=1e-5)
        assert x.std().item() == pytest.approx(1, abs=1e-5)
    assert not torch.equal(whole._sets["test"].x, part._sets["test"].x)


def test_validation_split_is_stratified_disjoint_and_leaves_the_test_set_alone():
    whole, part = ready(), ready(val_fraction=0.2)
    assert part.evaluation_split == "val"
    assert whole.evaluation_split == "test"
    train, val = part._sets["train"], part._sets["val"]
    assert len(train) + len(val) == len(whole._sets["train"])
    assert len(val) == pytest.approx(0.2 * 1437, abs=1)
    shares = torch.bincount(val.y) / torch.bincount(whole._sets["train"].y)
    assert shares.numpy() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(part._sets["test"].y, whole._sets["test"].y)


def test_split_seed_decides_the_split():
    first, again, other = ready(), ready(), ready(split_seed=7)
    assert torch.equal(first._sets["test"].x, again._sets["test"].x)
    assert not torch.equal(first._sets["test"].y, other._sets["test"].y)


def test_the_evaluation_split():
    whole, part = ready(), ready(val_fraction=0.2)
    assert len(whole.val_dataloader().dataset) == 360
    assert len(part.val_dataloader().dataset) == len(part._sets["val"])
    assert len(part.test_dataloader().dataset) == 360


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"val_fraction": -0.1},
        {"val_fraction": 1.0},
        {"split_seed": -1},
        {"split_seed": 2**32},
    ],
)
def test_values_out_of_range_are_named(arguments):
    with pytest.raises(SettingError, match=next(iter(arguments))):
        Digits(**arguments)


def test_a_share_too_small_for_the_classes():
    with pytest.raises(SettingError, match=r"0\.001 of 1437"):
        ready(val_fraction=0.001)


def test_rows_of_a_data_set_of_ones_own_are_checked():
    class Own(Digits):
        def load(self, source):
            rows = super().load(source)
            return replace(rows, test_y=rows.test_y[1:])

    with pytest.raises(SettingError, match="359") as caught:
        Own().setup()
    assert str(Digits().locate().folder) in str(caught.value)


def test_missing_files_are_downloaded_only_on_request(tmp_path, monkeypatch, serve):
    write_idx(tmp_path / "mirror", MNIST.names, gz=True)
    registry = {path.name: f"md5:{md5(path.read_bytes()).hexdigest()}" for path in (tmp_path / "mirror").iterdir()}
    monkeypatch.setattr(MNIST, "mirrors", (serve(tmp_path / "mirror")[0],))
    monkeypatch.setattr(MNIST, "registry", registry)
    with pytest.raises(SettingError, match="PSN_DATA_DIR") as caught:
        MNIST(download=False).prepare_data()
    assert str(tmp_path / "cache" / "psn_lightning" / MNIST.folder) in str(caught.value)
    with pytest.raises(SettingError, match="prepare_data"):
        MNIST().setup()
    data = MNIST()
    data.prepare_data()
    data.setup()
    assert data.description()["dataset.rows"] == "train 30, val 0, test 10"


def test_description_names_files_sizes_and_split():
    found = ready(split_seed=5).description()
    assert found["dataset.completeness"] == "complete"
    assert found["dataset.rows"] == "train 1437, val 0, test 360"
    assert found["dataset.split_seed"] == "5"
    assert len(found["dataset.digest"]) == 64
