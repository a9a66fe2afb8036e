"""Model card of a trained network: ``README.md`` beside its weights, written from the network and its run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from psn_lightning.nn.sparsify import describe
from psn_lightning.nn.weights import sparse_layers
from psn_lightning.topology.statistics import summarize

TAGS = ("sparse", "sparse-training", "psn_lightning")
"""Tags of the card; the Hub finds models by them."""

_HEAD = """---
library_name: psn_lightning
tags: [{tags}, pytorch_model_hub_mixin, model_hub_mixin]
# license: for the author to choose
---
"""


@dataclass(frozen=True)
class TrainedRun:
    """What is known of the training of a network."""

    method: str
    """Method that changed the masks, such as ``RigL``; ``static`` for none."""
    data: str
    """Data set."""
    seed: int | None
    """Seed of the run; None if it is not known."""
    step: int
    """Optimizer step of the weights."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Last values of the metrics up to that step, by name."""
    configuration: str = ""
    """Complete configuration, as YAML; empty if it is not known."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Further facts for the table, such as versions, by title."""


def write_card(model: nn.Module, kind: type[nn.Module], run: TrainedRun | None = None) -> str:
    """Write the model card of a network.

    Args:
        model: The network with its masks.
        kind: Class that loads it, with the method ``from_pretrained``.
        run: Training of the network; None leaves that section out.

    Returns:
        Markdown with the Hub's YAML header, whose licence is left to the author.
    """
    title = f"{type(model).__name__} trained on {run.data}" if run else type(model).__name__
    return "\n".join([_HEAD.format(tags=", ".join(TAGS)), f"# {title}\n", *_sections(model, kind, run)])


def _sections(model: nn.Module, kind: type[nn.Module], run: TrainedRun | None) -> Iterable[str]:
    table = describe(model)
    n_absent = sum(row.positions - row.connections for row in table if row.storage == "masked")
    n_parameters = sum(parameter.numel() for parameter in model.parameters()) - n_absent
    absent = f"{table.sparsity:.2%} of the connections of its sparse layers are absent" if len(table) else "dense"
    yield f"{n_parameters:,} parameters; {absent}.\n"
    yield "## Load it\n"
    lines = [f"from {kind.__module__} import {kind.__qualname__}"]
    lines += [f'network = {kind.__qualname__}.from_pretrained("FOLDER")  # or OWNER/NAME on the Hub', "y = network(x)"]
    yield "\n".join(["```python", *lines, "```\n"])
    if run and run.configuration:
        yield "Inputs are what the data module of the configuration below gives, normalised as for training.\n"
    if len(table):
        yield "## Sparse layers\n"
        yield "Fan-in is the number of inputs of a neuron; its CCV is the coefficient of variation, std / mean.\n"
        yield _table(
            ("layer", "neurons × inputs", "connections", "realised sparsity", "fan-in", "fan-in CCV"), _rows(model)
        )
    if run:
        yield from _training(run)
    yield "## Intended use, limits and licence\n"
    yield "For the author to say. The header of this file has a line for the licence.\n"


def _rows(model: nn.Module) -> Iterable[Sequence[str]]:
    for name, layer in sparse_layers(model).items():
        found = summarize(layer.connectivity)
        fan_in = f"{found.fan_in_min} … {found.fan_in_max}, mean {found.fan_in_mean:.1f}"
        sizes = f"{found.n_out} × {found.n_in}"
        yield f"`{name}`", sizes, f"{found.connections:,}", f"{found.sparsity:.4f}", fan_in, f"{found.fan_in_ccv:.3f}"


def _training(run: TrainedRun) -> Iterable[str]:
    yield "## Training\n"
    seed = "unknown" if run.seed is None else str(run.seed)
    facts = {"method": run.method, "data set": run.data, "seed": seed, "optimizer steps": f"{run.step:,}"}
    yield _table(("", ""), (facts | dict(run.sources)).items())
    if run.metrics:
        yield "## Metrics\n"
        yield f"The last values of the run up to step {run.step:,}.\n"
        yield _table(("metric", "value"), ((f"`{name}`", f"{value:.4f}") for name, value in run.metrics.items()))
    if run.configuration:
        yield "## Configuration\n"
        yield "`psn-train fit --config config.yaml` with this file repeats the run.\n"
        yield f"<details><summary>config.yaml</summary>\n\n```yaml\n{run.configuration.strip()}\n```\n\n</details>\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"
