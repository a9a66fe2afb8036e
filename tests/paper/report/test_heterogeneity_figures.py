"""Accuracy over the fan-in CCV: the line is that of runs without the effects of their seeds."""

import pytest

from psn_lightning.paper.report.heterogeneity_figures import accuracy_figure
from psn_lightning.paper.report.runs import Runs
from tests.paper.report.conftest import SEEDS, recorded


@pytest.mark.parametrize("slope", [-0.5, 0.25])
def test_the_line_has_the_slope_of_the_cells(slope):
    runs = [
        recorded("multipeak", "mnist", {"cell": i}, seed, 97 + slope * ccv + shift, {"fan_in/ccv": ccv})
        for i, ccv in enumerate((0.1, 0.5, 1.0, 2.5))
        for shift, seed in enumerate(SEEDS[: 5 - i])  # seeds differ by whole points, and some cells lack some
    ]
    (axis,) = accuracy_figure(Runs(runs)).axes
    labels = [line.get_label() for line in axis.lines]
    assert f"{slope:+.2f} points per unit of CCV" in labels
    line = next(line for line in axis.lines if "points" in line.get_label())
    first, *_, last = zip(*line.get_data(), strict=True)
    assert (last[1] - first[1]) / (last[0] - first[0]) == pytest.approx(slope)
