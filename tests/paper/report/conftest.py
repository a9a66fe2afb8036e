"""Made-up records for the rules of judgement."""

import itertools

import numpy as np
import pytest

from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report.runs import Runs

SEEDS = (42, 123, 456, 789, 1024)


def recorded(reproduction, data, cell, seed, accuracy, metrics=None, curve=None, completeness="complete", plan=""):
    names = {"mnist": "MNIST", "fashion": "Fashion-MNIST", "emnist": "EMNIST-Balanced", "forest": "Forest Cover"}
    return RecordedRun(
        reproduction=reproduction,
        data=data,
        cell=cell,
        seed=seed,
        digest="0",
        dataset=names[data] if completeness == "complete" else f"{names[data]} subset",
        completeness=completeness,
        metrics={"test/accuracy": accuracy / 100, **(metrics or {})},
        curves={"test/accuracy": [value / 100 for value in (curve or [accuracy])]},
        seconds=60.0,
        storage="csr",
        machine="Linux x86_64, 2 cores",
        version="0.1.0",
        commit="",
        date="2026-11-24T00:00:00+00:00",
        plan=plan,
    )


@pytest.fixture
def made():
    """Function that makes runs of several cells from mean accuracies, or from pairs of accuracy and metrics."""

    def make(reproduction, data, key, cells, spread=0.05, seeds=SEEDS, **more):
        rng = np.random.default_rng(7)
        runs = []
        for (value, mean), seed in itertools.product(cells.items(), seeds):
            accuracy, metrics = mean if isinstance(mean, tuple) else (mean, None)
            cell = {key: value, **more.get("cell", {})}
            noise = float(rng.normal(0, spread))
            plan = more.get("plan", "")
            shifted = {name: figure + noise for name, figure in (metrics or {}).items()}
            completeness = more.get("completeness", "complete")
            curve = more.get("curves", {}).get(value)
            curve = None if curve is None else [v + noise for v in curve]
            runs.append(recorded(reproduction, data, cell, seed, accuracy + noise, shifted, curve, completeness, plan))
        return Runs(runs)

    return make
