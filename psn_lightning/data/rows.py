"""Raw rows of a data set, and the checks that every data set has to pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from psn_lightning.errors import SettingError

_ROUNDING = 2e-6  # relative to the mean: float32 standard deviation of equal values


@dataclass(frozen=True)
class Rows:
    """Raw rows of a data set.

    Args:
        train_x: Features of the training rows, shape ``(n, n_features)``, bytes or finite numbers, not normalised.
        train_y: Labels of the training rows, shape ``(n,)``, int64, in [0, n_classes).
        test_x: Features of the test rows.
        test_y: Labels of the test rows.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def __len__(self) -> int:
        return len(self.train_y) + len(self.test_y)

    def check(self, n_features: int, n_classes: int, where: str) -> None:
        """Check shapes, labels and values.

        Args:
            n_features: Expected number of features.
            n_classes: Expected number of classes.
            where: Name and folder of the data set, for errors.

        Raises:
            SettingError: If features and labels do not fit together, a label is unknown or a feature is not finite.
        """
        for x, y in ((self.train_x, self.train_y), (self.test_x, self.test_y)):
            problem = ""
            if x.shape != (len(y), n_features) or len(y) == 0:
                problem = f"features have shape {tuple(x.shape)}, expected (n, {n_features}) for {len(y)} labels"
            elif int(y.min()) < 0 or int(y.max()) >= n_classes:
                problem = f"labels {int(y.min())} … {int(y.max())} are not within 0 … {n_classes - 1}"
            elif x.is_floating_point() and not torch.isfinite(x).all():
                problem = "features are not finite"
            if problem:
                raise SettingError(f"{where}: {problem}; download the files again")


def check_normalization(mean: Tensor, std: Tensor, where: str) -> None:
    """Refuse statistics that would make every loss NaN.

    Args:
        mean: Mean of the training rows, scalar or of shape ``(n_features,)``.
        std: Standard deviation of the training rows, of the same shape.
        where: Name and folder of the data set, for errors.

    Raises:
        SettingError: If a statistic is not finite, or features are constant.
    """
    wrong = ~(mean.isfinite() & std.isfinite() & (std > _ROUNDING * mean.abs()))
    if wrong.any():
        column = f" of column {int(wrong.nonzero()[0]) + 1}" if std.ndim else ""
        raise SettingError(
            f"{where}: features cannot be normalised with mean {mean[wrong][0]:g} and standard deviation "
            f"{std[wrong][0]:g}{column}; download the files again"
        )
