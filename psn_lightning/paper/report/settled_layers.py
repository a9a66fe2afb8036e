"""Layers after canonical RigL from unstructured masks: what the laws of the equilibrium CCV are fitted to."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from psn_lightning.data import DATASETS
from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report.runs import Runs, metric

_HIDDEN = 1024  # default number of neurons of a hidden layer
_RIGL = {"rigl": "uniform", "rigl erk": "erk"}  # canonical RigL in the comparisons of methods, by its initial masks


@dataclass(frozen=True)
class Choices:
    """Choices of a run of canonical RigL on which its final CCV may depend."""

    start: str
    """Initial masks: erk or uniform."""
    linear: bool = False
    """Whether the first weights have the scale of nn.Linear, not that of Eq. 9."""
    init_scale: float = 1.0
    """Factor of the first weights beside that."""
    drop_fraction: float = 0.3
    """Share of the connections that the first update replaces."""
    period: int = 100
    """Optimizer steps between updates."""

    def weight_scale(self, sparsity: float) -> float:
        """Return the standard deviation of a layer's first weights, relative to that of Eq. 9.

        Eq. 9 has the variance 2 / ((1 − s) n_in), nn.Linear 1 / (3 n_in).

        Args:
            sparsity: Realised sparsity s of the layer.
        """
        return self.init_scale * (math.sqrt((1 - sparsity) / 6) if self.linear else 1.0)

    @property
    def weights(self) -> str:
        """Name of the scale of the first weights."""
        name = "nn.Linear" if self.linear else "Eq. 9"
        return name if self.init_scale == 1 else f"{name} × {self.init_scale:g}"


_VARIANTS = {
    "canonical": Choices("erk"),
    "drop fraction 0.1": Choices("erk", drop_fraction=0.1),
    "drop fraction 0.5": Choices("erk", drop_fraction=0.5),
    "period 20": Choices("erk", period=20),
    "period 500": Choices("erk", period=500),
    "init scale 0.5": Choices("erk", init_scale=0.5),
    "init scale 2": Choices("erk", init_scale=2.0),
}  # those of equilibrium-variants that are canonical RigL in another scale or schedule


@dataclass(frozen=True)
class Layer:
    """Layer after canonical RigL from unstructured masks; means over the seeds."""

    data: str
    """Short name of the data set."""
    dataset: str
    """Title of the data set, such as ``Covertype 177k subset``."""
    choices: Choices
    """Initial masks and weights, and schedule."""
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

    @property
    def weight_scale(self) -> float:
        """Standard deviation of the first weights, relative to that of Eq. 9."""
        return self.choices.weight_scale(self.sparsity)


def layers(runs: Runs) -> list[Layer]:
    """Collect the layers of canonical RigL from unstructured masks.

    Args:
        runs: Recorded runs.

    Returns:
        Layers with a CCV above 0.
    """
    groups: dict[str, tuple[Choices, list[RecordedRun]]] = {}
    for run in runs.distinct().all:
        choices = _read_choices(run)
        if choices and choices.start in {"erk", "uniform"}:
            sparsity, hidden = run.cell.get("model.sparsity", 0.9), run.cell.get("model.hidden")
            network = json.dumps([run.data, *vars(choices).values(), sparsity, hidden])
            groups.setdefault(network, (choices, []))[1].append(run)
    found = [layer for name, (choices, group) in groups.items() for layer in _average_layers(group, choices, name)]
    return [layer for layer in found if layer.ccv > 0]  # ERK makes some layers dense, whose CCV is 0


def _read_choices(run: RecordedRun) -> Choices | None:
    """Return the choices of a run, whatever its initial masks; None if it is not of canonical RigL."""
    cell = run.cell
    match run.reproduction:
        case "equilibrium" | "rigl-init" | "fashion-10-seeds" | "advantage":
            return Choices(cell["start"])
        case "starts":
            return Choices(cell["start"], linear=True) if cell["growth"] == "canonical" else None
        case "equilibrium-shapes":
            return Choices("uniform")
        case "equilibrium-variants":
            return _VARIANTS.get(cell["variant"])
        case "methods" | "gse":
            return Choices(_RIGL[cell["method"]], linear=True) if cell["method"] in _RIGL else None
    return None


def _average_layers(group: Sequence[RecordedRun], choices: Choices, network: str) -> Iterator[Layer]:
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
        yield Layer(run.data, run.dataset, choices, name, *shape, sparsity, ccv, len(group), network)
