"""Tables of RigL's equilibrium CCV (std / mean of the fan-in): Table 4, measured values, and the law."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from itertools import pairwise

from psn_lightning.data import DATASETS
from psn_lightning.paper.report import published
from psn_lightning.paper.report.law import law_table, layer_table
from psn_lightning.paper.report.paper_tables import choices
from psn_lightning.paper.report.runs import Runs, metric
from psn_lightning.paper.report.settled_layers import layers
from psn_lightning.paper.report.tables import NOTHING, Table, mean_of
from psn_lightning.paper.report.verdicts import MINUS, number
from psn_lightning.topology import allocate
from psn_lightning.topology.equilibrium import PAPER_TABLE_4, two_level_bound

UNSEEN = "unseen, grown initial"
"""Choices whose CCV is nearest to Table 4: growth does not see absent connections, and grown weights are drawn."""

_HIDDEN = 1024  # neurons of a hidden layer of the paper's networks
_CCV = metric("fan_in/ccv")


def measured(runs: Runs) -> dict[str, dict[float, float]]:
    """Average the final CCV of canonical RigL from ERK over the seeds.

    Args:
        runs: Recorded runs.

    Returns:
        CCV, rounded to two digits, by data set and sparsity.
    """
    own = runs.of("equilibrium").having({"start": "erk"})
    return {
        data: {
            sparsity: round(statistics.fmean(cell.by_seed(_CCV).values()), 2)
            for sparsity in sorted(own.of("equilibrium", data).values("model.sparsity"))
            if (cell := own.of("equilibrium", data).having({"model.sparsity": sparsity}))
        }
        for data in sorted(own.data())
    }


def bounds_under_erk(data: str) -> dict[float, float]:
    """Compute the largest CCV of the paper's network with the densities that ERK gives its layers.

    Args:
        data: Short name of the data set.

    Returns:
        Two-level bound by sparsity, mean over the hidden layers.
    """
    sizes = [DATASETS[data].n_features, *[_HIDDEN] * (3 if data == "forest" else 2)]
    shapes = [(n_out, n_in) for n_in, n_out in pairwise(sizes)]
    return {
        sparsity: statistics.fmean(two_level_bound(1 - density) for density in allocate(shapes, sparsity, "erk"))
        for sparsity in PAPER_TABLE_4[data]
    }


def settled_table(runs: Runs) -> Table:
    """Make the table of Table 4, canonical RigL, and RigL with the nearest choices.

    Args:
        runs: Recorded runs.
    """
    canonical = runs.of("equilibrium").having({"start": "erk"})
    unseen = runs.of("equilibrium-combinations").having({"choices": UNSEEN})
    rows = []
    for data, printed in PAPER_TABLE_4.items():
        bounds = bounds_under_erk(data)
        for sparsity, ccv in printed.items():
            cells = [
                r.having({"model.sparsity": sparsity})
                for r in (_select_data(canonical, data), _select_data(unseen, data))
            ]
            bound = bounds[sparsity]
            found = list(cells[1].by_seed(_CCV).values())
            share = number(statistics.fmean(found) / bound) if found else NOTHING
            ours = [mean_of(cell, _CCV) for cell in cells]
            names = ", ".join(dict.fromkeys(cell.dataset() for cell in cells if cell)) or published.DATA[data]
            rows.append([names, f"{sparsity:.0%}", number(ccv), *ours, number(bound), number(ccv / bound), share])
    columns = ["data", "sparsity", "paper", "canonical RigL, from ERK", f"RigL, {UNSEEN}", "bound", "paper / bound"]
    note = "Fan-in CCV after the last epoch, mean over the layers: mean ± standard deviation over seeds (n)."
    note += " The bound is that of ERK's densities."
    return Table("Table 4, canonical RigL, and RigL whose growth does not see", note, [*columns, "ours / bound"], rows)


def unseen_table(runs: Runs) -> Table:
    """Make the table of Table 4 beside growth that does not see, new weights 0, and nn.Linear's scale, by start.

    Args:
        runs: Recorded runs.
    """
    own = runs.of("table4")
    rows, errors = [], []
    for data, printed in PAPER_TABLE_4.items():
        for sparsity, ccv in printed.items():
            cells = [
                _select_data(own, data).having({"model.sparsity": sparsity, "start": start})
                for start in ("erk", "lognormal")
            ]
            found = list(cells[0].by_seed(_CCV).values())
            errors += [statistics.fmean(found) / ccv - 1] if found else []
            names = ", ".join(dict.fromkeys(cell.dataset() for cell in cells if cell)) or published.DATA[data]
            share = f"{errors[-1]:+.1%}".replace("-", MINUS) if found else NOTHING
            rows.append([names, f"{sparsity:.0%}", number(ccv), *(mean_of(cell, _CCV) for cell in cells), share])
    rms = f"{math.sqrt(statistics.fmean(error**2 for error in errors)):.1%}" if errors else "not known"
    note = (
        f"Fan-in CCV after the last epoch, mean over the layers: mean ± standard deviation over seeds (n). Root mean "
        f"square of the relative error from ERK: {rms}, over {len(errors)} of 16 cells."
    )
    columns = ["data", "sparsity", "paper", "unseen, from ERK", "unseen, from lognormal", "ERK / paper − 1"]
    return Table("Table 4 under growth that does not see, new weights 0, nn.Linear's scale", note, columns, rows)


def _select_data(runs: Runs, data: str) -> Runs:
    """Select the runs of a data set, of all reproductions."""
    return Runs(run for run in runs.all if run.data == data)


def equilibrium_tables(runs: Runs) -> Iterator[Table]:
    """Make the tables of the equilibrium CCV; tables without runs are left out.

    Args:
        runs: Recorded runs.
    """
    if runs.of("equilibrium") or runs.of("equilibrium-combinations"):
        yield settled_table(runs)
    if runs.of("table4"):
        yield unseen_table(runs)
    for reproduction in ("equilibrium-variants", "equilibrium-combinations"):
        for data in runs.of(reproduction).data():
            yield choices(runs.of(reproduction, data))
    found = layers(runs)
    if found:
        yield law_table(found)
        yield layer_table(found)
