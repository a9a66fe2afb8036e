"""Claims of the paper about the fan-in CCV (std / mean) at which RigL settles: Table 4, whatever the start."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from psn_lightning.paper.plan import is_planned
from psn_lightning.paper.report.contrasts import Contrast, farthest
from psn_lightning.paper.report.evidence import Assessment, Evidence
from psn_lightning.paper.report.looks import count_left
from psn_lightning.paper.report.runs import Runs, metric, name_cell
from psn_lightning.paper.report.verdicts import Claim, Effect, Size, Verdict, difference, judge_equality, number
from psn_lightning.topology.equilibrium import PAPER_TABLE_4

_CCV = metric("fan_in/ccv")
_RMS_HOLDS, _RMS_FAILS = 0.05, 0.10  # relative errors of the plan's prediction
_CELLS = sum(len(row) for row in PAPER_TABLE_4.values())


def equilibrium_claims(assessment: Assessment) -> Iterator[Claim]:
    """Judge the claims about Table 4.

    Args:
        assessment: Plan, runs and analysis.
    """
    planned = assessment.plan.claims["equilibrium"]
    for rule, experiment in planned.experiments.items():
        for data in planned.data:
            yield assessment.judge("equilibrium", data, None, partial(_judge_equilibrium, rule), experiment)
    for rule, experiment in planned.experiments.items():
        yield _judge_table4(assessment, rule, experiment)


def _judge_equilibrium(rule: str, evidence: Evidence) -> Claim:
    """Judge that the final CCVs from ERK and from lognormal masks are equal, at every sparsity."""
    title = f"RigL's equilibrium CCV does not depend on the start ({rule} growth)"
    layout = evidence.runs.layout(measure=_CCV)
    found: dict[str, Contrast] = {}
    ends = []
    for sparsity in sorted(evidence.runs.values("model.sparsity")):
        cells = [{"model.sparsity": sparsity, "start": start} for start in ("lognormal", "erk")]
        contrast = layout.difference(*map(name_cell, cells))
        if contrast is None:
            continue
        found[f"{sparsity:.0%}"] = contrast
        high, low = (statistics.fmean(evidence.runs.having(cell).by_seed(_CCV).values()) for cell in cells)
        ends.append(f"{sparsity:.0%} {number(low)} and {number(high)}")
    if not found:
        return evidence.undecided("two starts with two seeds each", title)
    name, worst = farthest(found)
    margin = evidence.margin("ccv")
    verdict, effect = judge_equality(found, margin, evidence.alpha), Effect(worst, evidence.alpha, margin)
    ours = f"from ERK and lognormal: {'; '.join(ends)}; farthest at {name}: {difference(worst, evidence.alpha)}"
    return Claim(
        title, evidence.title, verdict, ours, "independent", basis=evidence.basis, effect=effect, of_accuracy=False
    )


def _judge_table4(assessment: Assessment, rule: str, experiment: str) -> Claim:
    """Judge the cells of Table 4 together, from ERK starts; of each data set all seeds of the plan, or older runs."""
    title = f"RigL's equilibrium CCVs are those of Table 4 ({rule} growth, from ERK)"
    counted, errors = list[Runs](), list[float]()
    for data, row in PAPER_TABLE_4.items():
        own = assessment.find_evidence("equilibrium", data, experiment)[-1].runs.having({"start": "erk"})
        for sparsity, printed in row.items():
            if cell := own.having({"model.sparsity": sparsity}):
                counted.append(cell)
                errors.append(statistics.fmean(cell.by_seed(_CCV).values()) / printed - 1)
    left = sum(count_left(assessment.runs.of(experiment, data), experiment, data) for data in PAPER_TABLE_4)
    whole = Claim(
        title,
        "all data sets",
        Verdict.NOT_RUN,
        "too few runs",
        f"{_CELLS} numbers",
        basis="not run",
        name="equilibrium",
        of_accuracy=False,
        reproduction=experiment,
        left=left,
    )
    if not errors:
        return whole
    rms = math.sqrt(statistics.fmean(error**2 for error in errors))
    at_least = rms * math.sqrt(len(errors) / _CELLS)  # of all cells, if those that are missing had no error
    verdict, size = Verdict.OPEN, Size.NONE
    if at_least > _RMS_FAILS:
        verdict = Verdict.NOT_REPRODUCED
        size = Size.SMALLER if statistics.fmean(errors) < 0 else Size.LARGER
    elif len(errors) == _CELLS:
        verdict, size = (Verdict.REPRODUCED, Size.COMPATIBLE) if rms < _RMS_HOLDS else (Verdict.OPEN, Size.NONE)
    mean = number(100 * statistics.fmean(errors), 1, sign=True)
    ours = f"rms of the relative error {rms:.1%} over {len(errors)} of {_CELLS} cells, mean {mean}%"
    every = [run for cell in counted for run in cell.all]
    basis = f"{'plan' if all(map(is_planned, every)) else 'exploratory'}: {experiment}, {len(every)} runs"
    return replace(whole, verdict=verdict, ours=ours, size=size, basis=basis)
