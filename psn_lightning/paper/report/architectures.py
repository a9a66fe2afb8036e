"""RigL's starts in networks that the paper leaves open: accuracy, and the fan-in where they end."""

from __future__ import annotations

from psn_lightning.paper.report.equivalence import equivalence_table
from psn_lightning.paper.report.pages import table_markdown
from psn_lightning.paper.report.runs import Runs, late_accuracy, metric
from psn_lightning.paper.report.tables import Table, mean_of

NETWORKS = {"resnet": "Residual network", "transformer": "Transformer"}
"""Reproductions, and the network that each trains."""

_SPARSITY = "trainer.callbacks.0.init_args.sparsity"
_NOT_RUN = "No run of `psn-train reproduce resnet` or `transformer` is recorded yet."


def architectures_markdown(runs: Runs) -> str:
    """Format the starts of RigL in other networks: where they end, and whether they are equal.

    Args:
        runs: Recorded runs.
    """
    parts = []
    for reproduction, network in NETWORKS.items():
        own = runs.of(reproduction)
        if own:
            equal = equivalence_table(own, f"{network}: starts against ERK", "start", "erk", [_SPARSITY])
            parts += [make_starts_table(own, network), *([equal] if equal.rows else [])]
    return "\n\n".join(map(table_markdown, parts)) or _NOT_RUN


def make_starts_table(runs: Runs, network: str) -> Table:
    """Make the table of accuracies and of the fan-in CCV (std / mean) after the last epoch.

    Args:
        runs: Runs of one network.
        network: Its name.
    """
    rows = []
    for sparsity in sorted(runs.values(_SPARSITY)):
        for start in runs.values("start"):
            cell = runs.having({_SPARSITY: sparsity, "start": start})
            ends = [mean_of(cell, measure) for measure in (late_accuracy, metric("fan_in/ccv"))]
            rows.append([f"{sparsity:.0%}", start, *ends])
    note = "Mean ± standard deviation (seeds). Accuracy is the mean of the last three epochs; CCV that of the layers."
    columns = ["sparsity", "start", "accuracy", "fan-in CCV at the end"]
    return Table(f"{network}: {runs.dataset()}", note, columns, rows)
