"""Forest Cover Type and the digits that ship with scikit-learn."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
import torch
from numpy.typing import NDArray
from sklearn.datasets import fetch_covtype, load_digits
from torch import Tensor

from psn_lightning.data.base import ClassificationData, Rows
from psn_lightning.data.reading import BoundedText, opened
from psn_lightning.data.sources import Source
from psn_lightning.errors import SettingError

_TEST_SHARE = 0.2
_CONTINUOUS = 10  # the first ten columns of Covertype; the other 44 are indicators
_MOST_ROWS = 1_000_000  # 581,012 are official; short ones are filled up: a bound on bytes alone is none on memory

_UCI_URL = "https://archive.ics.uci.edu/ml/machine-learning-databases/covtype/covtype.data.gz"
_UCI_SHA256 = "614360d0257557dd1792834a85a1cdebfadc3c4f30b011d56afee7ffb5b15771"


class TabularData(ClassificationData):
    """Rows without an official split: 80/20, stratified, by ``split_seed``; not for direct use."""

    def split_rows(self, x: Tensor, y: Tensor) -> Rows:
        """Hold the test rows out."""
        train, test = self.split(y, _TEST_SHARE)
        return Rows(x[train], y[train], x[test], y[test])


class ForestCover(TabularData):
    """Forest Cover Type (Blackard and Dean, 1999): 581,012 rows, 54 columns, 7 classes.

    The ten continuous columns are standardised on the training rows; the 44 indicators are left alone.
    """

    title = "Covertype"
    folder = "covertype"
    names = ("covtype.data.gz",)
    n_features = 54
    n_classes = 7
    official_rows = 581_012

    def fetch(self, scratch: Path) -> Path:
        """UCI's file; if that fails, the same rows through scikit-learn."""
        name = self.names[0]
        try:
            pooch.retrieve(_UCI_URL, f"sha256:{_UCI_SHA256}", fname=name, path=scratch, progressbar=True)
        except (OSError, ValueError):
            x, y = fetch_covtype(data_home=str(scratch / "sklearn"), return_X_y=True)
            plain = scratch / "covtype.data"
            pd.DataFrame(np.column_stack([x, y]).astype(int)).to_csv(plain, header=False, index=False)
            with plain.open("rb") as source, gzip.open(scratch / name, "wb") as target:
                shutil.copyfileobj(source, target)
        return scratch

    def load(self, source: Source) -> Rows:
        """54 integer columns, then the label 1 … 7."""
        path = source.files[0]
        table = self._table(path)
        labels = table[:, -1]
        if not np.isfinite(table).all():
            raise SettingError(f"{path} has missing or infinite values; delete it and fetch it again")
        if not np.isin(labels, np.arange(1, self.n_classes + 1)).all():
            raise SettingError(f"{path} has labels outside 1 … {self.n_classes}; delete it and fetch it again")
        rows = torch.from_numpy(table)
        try:
            return self.split_rows(rows[:, :-1], rows[:, -1].long() - 1)
        except SettingError as error:
            raise SettingError(f"{path}: {error}; fetch it again") from error

    def _table(self, path: Path) -> NDArray[np.float32]:
        """All numbers, at most ``_MOST_ROWS`` rows of the expected columns."""
        with opened(path) as file:
            text = io.BufferedReader(BoundedText(file, path))
            line = text.peek().split(b"\n", 1)[0]
            columns = line.count(b",") + bool(line)
            if columns != self.n_features + 1:
                raise SettingError(f"{path} has {columns} columns, expected {self.n_features + 1}; fetch it again")
            try:
                with np.errstate(over="ignore"):  # load tells of infinities
                    table = pd.read_csv(
                        text, header=None, dtype=np.float32, nrows=_MOST_ROWS + 1, quoting=csv.QUOTE_NONE
                    ).to_numpy()
            except SettingError:
                raise
            except ValueError as error:  # pandas' parser errors are ValueErrors
                reason = " ".join(str(error).split())[:160]
                raise SettingError(f"{path} cannot be read ({reason}); delete it and fetch it again") from error
        if len(table) > _MOST_ROWS:
            raise SettingError(f"{path} has more than {_MOST_ROWS} rows; delete it and fetch it again")
        return table

    def normalization(self, train_x: Tensor) -> tuple[Tensor, Tensor]:
        """Per continuous column; 0 and 1 for the indicators."""
        mean, std = torch.zeros(self.n_features), torch.ones(self.n_features)
        mean[:_CONTINUOUS] = train_x[:, :_CONTINUOUS].mean(dim=0)
        std[:_CONTINUOUS] = train_x[:, :_CONTINUOUS].std(dim=0)
        return mean, std

    def subset_title(self, rows: int) -> str:
        """As other reports name it."""
        return f"Covertype {round(rows / 1000)}k subset"


class Digits(TabularData):
    """The 8 × 8 digits that ship with scikit-learn: 1,797 images, 64 pixels, 10 classes; no download."""

    title = "Digits"
    folder = "digits"
    names = ("digits.csv",)
    n_features = 64
    n_classes = 10
    official_rows = 1_797

    def locate(self) -> Source:
        """Inside scikit-learn."""
        import sklearn.datasets.data as package

        return Source((Path(next(iter(package.__path__))) / "digits.csv.gz",))

    def fetch(self, scratch: Path) -> Path:
        """Never needed."""
        raise SettingError("scikit-learn's digits are missing from its installation; reinstall scikit-learn")

    def load(self, source: Source) -> Rows:
        """Pixels in [0, 1]."""
        x, y = load_digits(return_X_y=True)
        return self.split_rows(torch.from_numpy(x).float() / 16, torch.from_numpy(y).long())
