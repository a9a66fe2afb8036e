import pytest
import torch

from psn_lightning.data.rows import Rows, check_normalization
from psn_lightning.errors import SettingError

X, Y = torch.linspace(0, 1, 24).reshape(6, 4), torch.arange(6) % 3


def test_sound_rows_pass():
    rows = Rows(X, Y, X[:2], Y[:2])
    rows.check(4, 3, "Test")
    assert len(rows) == 8


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        (Rows(X[:, 1:], Y, X, Y), r"\(6, 3\)"),
        (Rows(X, Y, X, Y[1:]), r"\(6, 4\).* 5 labels"),
        (Rows(X, Y, X[:0], Y[:0]), r"\(0, 4\)"),
        (Rows(X, Y + 1, X, Y), "1 … 3"),
        (Rows(X, Y, X, Y - 1), "-1 … 1"),
        (Rows(X / 0, Y, X, Y), "finite"),
    ],
)
def test_what_does_not_fit_is_named_with_the_data_set(rows, value):
    with pytest.raises(SettingError, match=f"^Test: .*{value}"):
        rows.check(4, 3, "Test")


@pytest.mark.parametrize(
    ("mean", "std", "value"),
    [
        (0.0, 0.0, "deviation 0"),
        (0.1, 1e-8, "mean 0.1"),
        (1.0, float("inf"), "inf"),
        (float("nan"), 1.0, "nan"),
        ([0.0, 7.0], [1.0, 0.0], "mean 7 .* 0 of column 2"),
    ],
)
def test_features_that_cannot_be_normalised(mean, std, value):
    with pytest.raises(SettingError, match=f"^Test: .*{value}"):
        check_normalization(torch.tensor(mean), torch.tensor(std), "Test")


def test_features_that_can_be_normalised():
    check_normalization(X.mean(), X.std(), "Test")
    check_normalization(X.mean(dim=0), X.std(dim=0), "Test")
