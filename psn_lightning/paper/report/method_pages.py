"""Text of the comparison of methods, for the report and for the pages of ``--into``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from psn_lightning.paper.report.equivalence import equivalence_table
from psn_lightning.paper.report.method_ranks import average_ranks, rank_table
from psn_lightning.paper.report.methods import BASELINES, EXPERIMENT, as_published_table, method_tables
from psn_lightning.paper.report.pages import table_markdown
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.table7 import statements_table
from psn_lightning.paper.report.tables import Table

_NOT_RUN = "No run of `psn-train reproduce methods` is recorded yet."
_NOTE = f"""\
Accuracy is the mean over the last three epochs: by then every method has reached the sparsity of its cell.
Differences to {BASELINES[0]} and {BASELINES[1]} are paired by seed, with the noise of the two methods alone: some vary
much more than others. With three seeds hardly a difference can be certain; p-values are corrected by Holm over all
methods. Intervals are those of a method's own runs. Values of layers stand in their order. The density in training is
the mean over all steps. TFLOP counts six operations per connection and row, where growth reads the gradient to absent
connections also two per position without one; scoring before training is in the minutes alone, which were measured
while other runs shared the machine.
"""


def methods_markdown(runs: Runs) -> str:
    """Format ranked accuracies, average ranks, and networks with their costs.

    Args:
        runs: Recorded runs.
    """
    tables = [*method_tables(runs), *_make_rank_tables(runs)]
    parts = [_NOTE.strip() if tables else _NOT_RUN, *map(table_markdown, tables)]
    if published := runs.of("methods-as-published"):
        parts.append(table_markdown(as_published_table(published)))
    parts += _equivalences(runs, "gse", "GSE and RigL", "method", "rigl", ["model.sparsity"])
    return "\n\n".join(parts)


def table7_markdown(runs: Runs) -> str:
    """Format the statements of Table 7 with their verdicts on each data set; without runs all are not run.

    Args:
        runs: Recorded runs.
    """
    own = runs.of(EXPERIMENT)
    parts = [own.of(EXPERIMENT, data) for data in own.data()] or [own]
    return "\n\n".join(table_markdown(statements_table(part, part.dataset() or "no runs")) for part in parts)


def sharing_markdown(runs: Runs) -> str:
    """Format what groups of neurons that share their inputs cost in accuracy.

    Args:
        runs: Recorded runs.
    """
    labels = ["profile", "training", "model.sparsity"]
    parts = _equivalences(runs, "sharing", "Groups and single neurons", "model.topology.init_args.size", 1, labels)
    return "\n\n".join(parts) or "No run of `psn-train reproduce sharing` is recorded yet."


def _equivalences(runs: Runs, reproduction: str, title: str, key: str, other: Any, labels: Sequence[str]) -> list[str]:
    """Format the tables of a reproduction that asks whether choices are equal, one for each data set."""
    own = runs.of(reproduction)
    parts = [own.of(reproduction, data) for data in own.data()]
    tables = [equivalence_table(part, f"{title}: {part.dataset()}", key, other, labels) for part in parts]
    return [table_markdown(table) for table in tables if table.rows]


def _make_rank_tables(runs: Runs) -> Iterator[Table]:
    """Average ranks of each data set that has enough runs."""
    for data in runs.of(EXPERIMENT).data():
        own = runs.of(EXPERIMENT, data)
        if (found := average_ranks(own)) is not None:
            yield rank_table(found, own.dataset())
