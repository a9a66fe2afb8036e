"""What was run and what was not, by reproduction and by claim."""

from __future__ import annotations

import math
from collections.abc import Mapping

from psn_lightning.commands.markdown import markdown_table
from psn_lightning.paper.plan import is_planned, load_plan
from psn_lightning.paper.recorded_run import key_of
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.reproduction import Reproduction, cells_of, load, names


def load_grids() -> dict[str, Reproduction]:
    """Load all reproductions by name."""
    return {name: load(name) for name in names()}


def count_planned(runs: Runs, grids: Mapping[str, Reproduction]) -> str:
    """Count the recorded and the missing runs of each reproduction.

    Args:
        runs: Recorded runs.
        grids: Reproductions by name.
    """
    recorded_keys = {run.key for run in runs.all}
    rows = []
    for name, reproduction in grids.items():
        for data in reproduction.data:
            cells = [key_of(name, data, cell, seed) for cell, seed in cells_of(reproduction, data).values()]
            done = sum(key in recorded_keys for key in cells)
            rows.append([name, reproduction.title, data, str(done), str(len(cells) - done)])
    return markdown_table(["reproduction", "what", "data", "run", "not run"], rows)


def cost_by_claim(runs: Runs, grids: Mapping[str, Reproduction]) -> str:
    """Make the table of the hours of each claim of the plan: of its runs so far, and of all by their mean duration.

    Args:
        runs: Recorded runs; one counts for each claim that it decides about.
        grids: Reproductions by name.
    """
    planned = Runs(run for run in runs.all if is_planned(run))
    rows = []
    for name, claim in load_plan().claims.items():
        done, wanted, seconds, whole = 0, 0, 0.0, 0.0
        for experiment in dict.fromkeys(claim.experiments.values()):
            reproduction = grids[experiment]
            for data in (entry for entry in claim.data if entry in reproduction.data):
                own = planned.of(experiment, data).all
                total = len(cells_of(reproduction, data))
                spent = sum(run.seconds for run in own)
                done, wanted, seconds = done + len(own), wanted + total, seconds + spent
                whole += spent / len(own) * total if own else math.nan
        hours = "not known" if math.isnan(whole) else f"{whole / 3600:.1f}"
        rows.append([name, claim.claim, f"{done} of {wanted}", f"{seconds / 3600:.1f}", hours])
    columns = ["claim", "the paper says", "runs under the plan", "hours so far", "hours of all"]
    note = "`psn-train reproduce --check CLAIM` repeats a claim's runs and compares. A run may serve several claims."
    return f"{note}\n\n{markdown_table(columns, rows)}"
