"""Table of predictions: columns by the type of ``predict_step``'s output, and the index of the dataloader."""

import csv

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from psn_lightning.commands.predictions import PredictionTable
from psn_lightning.errors import SettingError
from tests.helpers.models import ACCELERATOR

X = torch.arange(10.0).reshape(5, 2)


class Model(pl.LightningModule):
    """Returns a function of each batch as prediction."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return self.output(batch)


@pytest.fixture
def predict(tmp_path):
    """Function that predicts on dataloaders, and returns header and rows of the table."""

    def run(output, *data, **settings):
        path = tmp_path / "new" / "predictions.csv"
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = pl.Trainer(
            accelerator=ACCELERATOR, devices=1, callbacks=[PredictionTable(str(path))], **quiet, **settings
        )
        loaders = [DataLoader(rows, batch_size=2) for rows in data or [X]]
        trainer.predict(Model(output), loaders[0] if len(loaders) == 1 else loaders)
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        return header, [list(map(float, row)) for row in rows]

    return run


@pytest.mark.parametrize(
    ("output", "columns"),
    [
        (lambda x: x[:, 0], {"predicted": X[:, 0]}),
        (lambda x: x, {"predicted_0": X[:, 0], "predicted_1": X[:, 1]}),
        (lambda x: {"a": x[:, 1], "b": x.long().sum(dim=1)}, {"a": X[:, 1], "b": X.sum(dim=1)}),
    ],
)
def test_one_dataloader(predict, output, columns):
    header, rows = predict(output)
    assert header == ["row", *columns]
    assert rows == [[i, *row] for i, row in enumerate(torch.stack(list(columns.values()), dim=1).tolist())]


@pytest.mark.parametrize("lengths", [(5, 3), (1, 5, 4)])
def test_several_dataloaders(predict, lengths):
    data = [X[:n] + 100 * i for i, n in enumerate(lengths)]
    header, rows = predict(lambda x: x[:, 0], *data)
    assert header == ["dataloader", "row", "predicted"]
    assert rows == [[i, j, float(x[0])] for i, own in enumerate(data) for j, x in enumerate(own)]


def test_integers_of_several_dataloaders_stay_integers(predict, tmp_path):
    predict(lambda x: {"label": x[:, 0].long()}, X, X)
    assert (tmp_path / "new" / "predictions.csv").read_text().splitlines()[1] == "0,0,0"


def test_a_dataloader_without_batches_has_no_rows(predict):
    _, rows = predict(lambda x: x[:, 0], X, X[:0], X[:1])
    assert [row[:2] for row in rows] == [*([0, i] for i in range(5)), [2, 0]]


@pytest.mark.parametrize("data", [(X,), (X, X)])
def test_bfloat16(predict, data):
    header, rows = predict(lambda x: {"probability": (x[:, 0] / 8).bfloat16()}, *data)
    assert header[-1] == "probability"
    assert [row[-1] for row in rows] == [0.0, 0.25, 0.5, 0.75, 1.0] * len(data)


@pytest.mark.parametrize("data", [(X,), (X, X)])
@pytest.mark.parametrize(
    ("output", "named"),
    [
        (lambda x: [x[:, 0]], "list"),
        (lambda x: "a", "str"),
        (lambda x: x[None], r"\(1, 2, 2\)"),
        (lambda x: x.sum(), r"\(\)"),
        (lambda x: {"a": x}, r"a: .*\(2, 2\)"),
        (lambda x: {"a": x[:, 0], "b": [1, 2]}, "b: list"),
    ],
)
def test_an_output_of_the_wrong_type_is_named(predict, tmp_path, output, named, data):
    with pytest.raises(SettingError, match=f"predict_step returned .*{named}"):
        predict(output, *data)
    assert not list(tmp_path.rglob("*.csv"))


def test_a_path_that_cannot_be_written_is_named(tmp_path, predict):
    (tmp_path / "new").write_text("")
    with pytest.raises(SettingError, match=rf"predictions\.path {tmp_path}/new/predictions\.csv"):
        predict(lambda x: x)
