"""Laws of the equilibrium CCV (std / mean of the fan-in), fitted to the record and tested on networks left out."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from psn_lightning.data import DATASETS
from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report.runs import Runs, metric
from psn_lightning.paper.report.tables import Table
from psn_lightning.paper.report.verdicts import number
from psn_lightning.topology.equilibrium import two_level_bound

_CANONICAL = {
    "equilibrium",
    "rigl-init",
    "fashion-10-seeds",
    "advantage",
}  # canonical RigL and Eq. 9, from several starts
_HIDDEN = 1024  # default number of neurons of a hidden layer


@dataclass(frozen=True)
class Layer:
    """Layer after canonical RigL from unstructured masks; means over the seeds."""

    data: str
    """Short name of the data set."""
    start: str
    """Initial masks: erk or uniform."""
    name: str
    """Name of the layer."""
    n_in: int
    """Number of inputs."""
    n_out: int
    """Number of neurons."""
    sparsity: float
    """Realised sparsity."""
    ccv: float
    """Fan-in CCV after the last epoch."""
    n: int
    """Number of distinct runs."""
    network: str
    """Network of the layer; layers of one network are not independent."""
    dataset: str
    """Title of the data set, such as ``Covertype 177k subset``."""


def layers(runs: Runs) -> list[Layer]:
    """Collect the layers of canonical RigL from unstructured masks.

    Args:
        runs: Recorded runs.

    Returns:
        Layers with a CCV above 0.
    """
    groups: dict[str, list[RecordedRun]] = {}
    for run in runs.distinct().all:
        if _is_canonical(run):
            key = [run.data, _name_start(run), run.cell.get("model.sparsity", 0.9), run.cell.get("model.hidden")]
            groups.setdefault(json.dumps(key), []).append(run)
    found = [layer for network, group in groups.items() for layer in _average_layers(group, network)]
    return [layer for layer in found if layer.ccv > 0]  # ERK makes some layers dense, whose CCV is 0


def _is_canonical(run: RecordedRun) -> bool:
    """Return whether a run is of canonical RigL from unstructured masks."""
    if run.reproduction == "equilibrium-variants":
        return bool(run.cell["variant"] == "canonical")
    if run.reproduction == "equilibrium-shapes":
        return True
    return run.reproduction in _CANONICAL and _name_start(run) in {"erk", "uniform"}


def _name_start(run: RecordedRun) -> str:
    """Name of the initial masks of a run."""
    default = {"equilibrium-variants": "erk", "equilibrium-shapes": "uniform"}.get(run.reproduction, "")
    return str(run.cell.get("start", default))


def _average_layers(group: Sequence[RecordedRun], network: str) -> Iterator[Layer]:
    """Average each layer over runs of a network that differ in the seed."""
    run = group[0]
    names = sorted(name.rsplit("/", 1)[1] for name in run.metrics if name.startswith("fan_in/ccv/"))
    hidden = json.loads(run.cell.get("model.hidden", "null")) or [_HIDDEN] * len(names)
    sizes = [DATASETS[run.data].n_features, *hidden]
    for i, name in enumerate(names):
        ccv, sparsity = (
            statistics.fmean(metric(f"{key}/{name}")(own) for own in group)
            for key in ("fan_in/ccv", "sparsity/realised")
        )
        shape = sizes[i], sizes[i + 1]
        yield Layer(run.data, _name_start(run), name, *shape, sparsity, ccv, len(group), network, run.dataset)


@dataclass(frozen=True)
class Fit:
    """Law with fitted coefficients and its error."""

    law: str
    """Formula of the law."""
    coefficients: Sequence[float]
    """Factor κ, followed by the exponents."""
    error: float
    """Typical factor between the law and a layer whose network was left out of the fit (rms of the logarithm)."""
    worst: float
    """Largest factor between the law and a layer whose network was left out of the fit."""


def fits(measured: Sequence[Layer]) -> list[Fit]:
    """Fit every law by least squares in the logarithms; the error is that of predictions for networks left out.

    Args:
        measured: Layers of canonical RigL.

    Returns:
        Fitted laws, the simplest first; empty for fewer than four networks or eight layers.
    """
    if len(measured) < 8 or len({layer.network for layer in measured}) < 4:
        return []
    return [_fit(measured, name, *terms) for name, terms in _LAWS.items()]


_Term = Callable[[Layer], float]


def _log_bound(layer: Layer) -> float:
    """Logarithm of the two-level bound."""
    return math.log(two_level_bound(layer.sparsity))


_LAWS: dict[str, tuple[_Term | None, list[_Term]]] = {
    "κ": (None, []),
    "κ √(s/(1−s))": (_log_bound, []),
    "κ √(s/(1−s))^p": (None, [_log_bound]),
    "κ √(s/(1−s)) n_in^q": (_log_bound, [lambda layer: math.log(layer.n_in)]),
    "κ √(s/(1−s)) n_out^r": (_log_bound, [lambda layer: math.log(layer.n_out)]),
    "κ √(s/(1−s))^p n_in^q n_out^r": (
        None,
        [_log_bound, lambda layer: math.log(layer.n_in), lambda layer: math.log(layer.n_out)],
    ),
}
"""Offset of the logarithm of the CCV, and terms that are fitted to the remainder, by formula."""

THE_LAW = "κ √(s/(1−s))"
"""Formula of :func:`psn_lightning.topology.equilibrium.law`."""


def _fit(measured: Sequence[Layer], name: str, offset: _Term | None, terms: Sequence[_Term]) -> Fit:
    """Fit a law by least squares, and predict the layers of each network from the other networks."""
    y = np.array([math.log(layer.ccv) - (offset(layer) if offset else 0.0) for layer in measured])
    x = np.array([[1.0, *(term(layer) for term in terms)] for layer in measured])

    def solve(keep: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.lstsq(x[keep], y[keep], rcond=None)[0])

    networks = np.array([layer.network for layer in measured])
    misses = np.concatenate([y[own] - x[own] @ solve(~own) for own in (networks == name for name in set(networks))])
    factor, *exponents = solve(np.full(len(y), True)).tolist()
    return Fit(
        law=name,
        coefficients=[math.exp(factor), *exponents],
        error=math.exp(float(np.sqrt((misses**2).mean()))),
        worst=math.exp(float(np.abs(misses).max())),
    )


def law_table(measured: Sequence[Layer]) -> Table:
    """Make the table of the laws.

    Args:
        measured: Layers of canonical RigL.
    """
    rows = [
        [fit.law, ", ".join(number(c, 3) for c in fit.coefficients), number(fit.error), number(fit.worst)]
        for fit in fits(measured)
    ]
    note = (
        f"Fitted to {len(measured)} layers, {sum(layer.n for layer in measured)} trajectories of distinct runs: "
        "canonical RigL from unstructured masks, CCV after the last epoch. Errors are factors, for networks left out."
    )
    return Table("A law of our equilibria", note, ["CCV =", "κ, exponents", "typical error", "largest"], rows)


def layer_table(measured: Sequence[Layer]) -> Table:
    """Make the table of the layers to which the laws are fitted.

    Args:
        measured: Layers of canonical RigL.
    """
    factor = next((fit.coefficients[0] for fit in fits(measured) if fit.law == THE_LAW), math.nan)
    rows = [
        [
            layer.dataset,
            layer.start,
            layer.name,
            f"{layer.n_in} → {layer.n_out}",
            f"{layer.sparsity:.1%}",
            number(layer.ccv),
            number(factor * two_level_bound(layer.sparsity)),
            str(layer.n),
        ]
        for layer in sorted(measured, key=lambda layer: (layer.data, layer.start, layer.sparsity, layer.name))
    ]
    columns = ["data", "start", "layer", "shape", "sparsity", "CCV", f"{THE_LAW}", "n"]
    return Table("Where canonical RigL ended, by layer", "", columns, rows)
