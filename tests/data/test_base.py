import inspect
from dataclasses import replace

import pytest
import torch

from psn_lightning.data import ClassificationData, Digits
from psn_lightning.data.batches import TensorData, as_is
from psn_lightning.data.images import IdxImages
from psn_lightning.data.tables import TabularData
from psn_lightning.errors import SettingError


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


def test_whole_batch_indexing_is_sample_by_sample_indexing():
    data = TensorData(torch.randn(9, 4), torch.arange(9))
    x, y = data.__getitems__([3, 1, 1])
    assert torch.equal(x, torch.stack([data[i][0] for i in (3, 1, 1)]))
    assert y.tolist() == [3, 1, 1]
    assert as_is((x, y)) == (x, y)


def test_normalised_by_the_rows_that_are_trained_on():
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


def test_what_is_evaluated_during_the_fit():
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
    with pytest.raises(SettingError, match="cannot be held out"):
        ready(val_fraction=0.001)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: {"train_x": rows.train_x[:, 1:]}, r"features of shape \(1437, 63\) and 1437 labels"),
        (lambda rows: {"test_y": rows.test_y[1:]}, r"features of shape \(360, 64\) and 359 labels"),
        (lambda rows: {"test_x": rows.test_x[:0], "test_y": rows.test_y[:0]}, r"\(0, 64\) and 0 labels"),
        (lambda rows: {"train_y": rows.train_y + 1}, "labels outside 0 … 9"),
        (lambda rows: {"test_y": rows.test_y - 1}, "labels outside 0 … 9"),
        (lambda rows: {"train_x": rows.train_x / 0}, "not finite"),
        (lambda rows: {"train_x": rows.train_x * 0}, "mean 0 and standard deviation 0 over the 1437 training rows"),
        (lambda rows: {"train_x": rows.train_x * 0 + 0.1}, "mean 0.1 and standard deviation .* cannot normalise them"),
        (lambda rows: {"train_x": rows.train_x * 1e38}, "standard deviation inf"),
    ],
)
def test_rows_of_a_data_set_of_ones_own_are_checked(change, message):
    class Own(Digits):
        def load(self, source):
            rows = super().load(source)
            return replace(rows, **change(rows))

    with pytest.raises(SettingError, match=message) as caught:
        Own().setup()
    assert str(Digits().locate().folder) in str(caught.value)


@pytest.mark.parametrize("base", [ClassificationData, IdxImages, TabularData])
def test_what_data_sets_share_is_none(base):
    assert inspect.isabstract(base)  # so the command line does not offer it
    with pytest.raises(TypeError, match="abstract"):
        base()


def test_description_names_files_sizes_and_split():
    found = ready(split_seed=5).description()
    assert found["dataset.completeness"] == "complete"
    assert found["dataset.rows"] == "train 1437, val 0, test 360"
    assert found["dataset.split_seed"] == "5"
    assert len(found["dataset.digest"]) == 64
