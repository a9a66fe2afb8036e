"""Table of RigL's starts under two growth rules, beside ERK."""

from __future__ import annotations

from psn_lightning.paper.report.runs import Runs, accuracy, metric, name_cell
from psn_lightning.paper.report.tables import LEVEL, NOTHING, Table, mean_of
from psn_lightning.paper.report.verdicts import difference

_CCV = metric("fan_in/ccv")


def starts_table(runs: Runs) -> Table:
    """Make the table of the starts: accuracy minus that from ERK, and the fan-in CCV at the end, by growth rule.

    Args:
        runs: Runs of ``starts``.
    """
    rows = []
    for data in runs.data():
        own = runs.of("starts", data)
        layout = own.layout(None, accuracy)
        for start in own.values("start"):
            row = [own.dataset(), start]
            for growth in ("canonical", "unseen"):
                cell = own.having({"start": start, "growth": growth})
                names = [name_cell({"growth": growth, "start": name}) for name in (start, "erk")]
                found = None if start == "erk" else layout.difference(*names)
                beside = NOTHING if found is None else difference(found, LEVEL)
                row += [mean_of(cell), beside, mean_of(cell, _CCV)]
            rows.append(row)
    columns = [f"{growth}: {name}" for growth in ("canonical", "unseen") for name in ("accuracy", "− ERK", "CCV")]
    note = (
        "Mean ± standard deviation (seeds); differences with 95% intervals, from the additive model of all cells and "
        "seeds. CCV: that of the fan-in after the last epoch, mean over the layers."
    )
    return Table(
        "RigL's starts at 90% under two growth rules, nn.Linear's scale", note, ["data", "start", *columns], rows
    )
