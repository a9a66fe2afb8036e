"""Additive model of an experiment: the measure of a run is an effect of its cell plus an effect of its seed, and noise.

A seed is a block: topology, first weights and the order of the data depend on it, in every cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsmodels.regression.linear_model import OLS

from psn_lightning.paper.report.contrasts import Contrast, holm

_DRAWS = 20_000  # of the multivariate t distribution
_JITTER = 1e-12  # added to the diagonal of a matrix that may be singular


class Layout:
    """Additive model, fitted to one measure of the runs of an experiment on one data set.

    Args:
        values: Measure by cell and seed; cells may lack some seeds.
        pooled: Whether the noise of a contrast is pooled over all cells; otherwise it is that of its own cells, which
            for two cells is the paired t-test.
    """

    def __init__(self, values: Mapping[tuple[str, int], float], pooled: bool = True) -> None:
        self.values = dict(values)
        self.pooled = pooled
        self.cells = list(dict.fromkeys(cell for cell, _ in values))
        self.seeds = sorted({seed for _, seed in values})

    @cached_property
    def _fit(self) -> Any:
        """Least squares with an indicator for each cell, and for each seed but the first."""
        y = np.array(list(self.values.values()))
        x = np.zeros((len(y), len(self.cells) + len(self.seeds) - 1))
        for row, (cell, seed) in enumerate(self.values):
            x[row, self.cells.index(cell)] = 1
            if seed != self.seeds[0]:
                x[row, len(self.cells) + self.seeds.index(seed) - 1] = 1
        return OLS(y, x).fit()

    @property
    def df(self) -> int:
        """Degrees of freedom of the residuals; 0 if there are not two cells and two seeds."""
        return int(self._fit.df_resid) if len(self.cells) > 1 and len(self.seeds) > 1 else 0

    @property
    def residual_std(self) -> float:
        """Standard deviation of the residuals, pooled over all cells."""
        return math.sqrt(self._fit.scale)

    def contrast(self, weights: Mapping[str, float]) -> Contrast | None:
        """Estimate a weighted sum of cell effects whose weights sum to 0.

        Args:
            weights: Weight of each cell that counts.

        Returns:
            Contrast; None if a cell has no run, or nothing is left to estimate the noise from.
        """
        if not self.pooled and set(weights) < set(self.cells):
            own = {place: value for place, value in self.values.items() if place[0] in weights}
            return Layout(own).contrast(weights)
        if not weights or not set(weights) <= set(self.cells) or self.df < 1:
            return None
        vector = np.zeros(len(self._fit.params))
        for cell, weight in weights.items():
            vector[self.cells.index(cell)] = weight
        test = self._fit.t_test(vector)
        used = [sum(cell == own for own, _ in self.values) for cell in weights]
        return Contrast(float(test.effect[0]), float(np.ravel(test.sd)[0]), float(self.df), min(used))

    def difference(self, one: str, other: str) -> Contrast | None:
        """Estimate the effect of one cell minus that of another; None as for :meth:`contrast`."""
        return self.contrast({one: 1.0, other: -1.0})

    def against(self, baseline: str) -> dict[str, Contrast]:
        """Estimate every other cell's effect minus that of a baseline."""
        found = {cell: self.difference(cell, baseline) for cell in self.cells if cell != baseline}
        return {cell: contrast for cell, contrast in found.items() if contrast is not None}

    def p_any_above(self, baseline: str) -> dict[str, float]:
        """Test each cell for being better than a baseline, one-sided and corrected for their number.

        That is Dunnett's (1955) test in a layout with blocks: the largest of the correlated t statistics under the
        hypothesis that no cell differs. If the noise is not pooled it is Holm's correction.

        Args:
            baseline: Cell that the others are compared with.
        """
        contrasts = self.against(baseline)
        if not self.pooled or not contrasts:  # no common noise, so no correlation to know
            return dict(zip(contrasts, holm([c.p_above() for c in contrasts.values()]), strict=True))
        vectors = np.zeros((len(contrasts), len(self._fit.params)))
        for row, cell in enumerate(contrasts):
            vectors[row, self.cells.index(cell)], vectors[row, self.cells.index(baseline)] = 1, -1
        covariance = vectors @ self._fit.normalized_cov_params @ vectors.T
        scale = np.sqrt(np.diag(covariance))
        largest = _draw_t(covariance / np.outer(scale, scale), self.df).max(axis=1)
        return {
            cell: float((1 + (largest >= c.difference / c.error).sum()) / (1 + _DRAWS))
            if c.error
            else float(c.difference <= 0)
            for cell, c in contrasts.items()
        }

    def mean(self, cell: str) -> Contrast | None:
        """Estimate the mean of a cell over all seeds that there could be.

        If every cell has every seed, the variances of seeds and noise are pooled over the cells, with the degrees of
        freedom of Satterthwaite (1946); otherwise the cell's own values count.

        Args:
            cell: Cell with two values or more; None is returned for fewer.
        """
        own = np.array([value for (name, _), value in self.values.items() if name == cell])
        n, c = len(own), len(self.cells)
        if n < 2:
            return None
        if c == 1 or len(self.values) < c * len(self.seeds):
            return Contrast(float(own.mean()), float(own.std(ddof=1)) / math.sqrt(n), n - 1, n)
        by_seed = [np.mean([self.values[name, seed] for name in self.cells]) for seed in self.seeds]
        seeds, noise = c * float(np.var(by_seed, ddof=1)), (c - 1) * float(self._fit.scale)
        total = seeds + noise
        df = total**2 / (seeds**2 / (n - 1) + noise**2 / ((c - 1) * (n - 1))) if total else n - 1
        return Contrast(float(own.mean()), math.sqrt(total / (c * n)), df, n)


def _draw_t(correlation: NDArray[np.float64], df: int) -> NDArray[np.float64]:
    """Draw from a multivariate t distribution, shape ``(_DRAWS, n)``.

    scipy's draws depend on the signs of eigenvectors, so that two machines would print different p-values.

    Args:
        correlation: Correlation matrix, shape ``(n, n)``.
        df: Degrees of freedom.
    """
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(correlation + _JITTER * np.eye(len(correlation)))
    draws: NDArray[np.float64] = rng.standard_normal((_DRAWS, len(correlation))) @ root.T
    return draws / np.sqrt(rng.chisquare(df, (_DRAWS, 1)) / df)
