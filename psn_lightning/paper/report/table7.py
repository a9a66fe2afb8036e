"""Statements of the paper's Table 7 and section 4 about other methods, judged by the comparison of methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from psn_lightning.paper.report.contrasts import Contrast, holm
from psn_lightning.paper.report.methods import DENSE, METHOD, SPARSITY, at_sparsity, of_method, sparsities
from psn_lightning.paper.report.runs import Measure, Runs, late_accuracy, metric
from psn_lightning.paper.report.tables import LEVEL, Table
from psn_lightning.paper.report.verdicts import Verdict, difference, judge_all_above, judge_none_above, number

RANDOM = "static random"
"""Method whose masks have no structure: the measure of uniformity."""

_MARGIN, _ACCURACY_MARGIN = 0.1, 0.3  # of the fan-in CCV, and points of accuracy, as in the analysis plan
_HIGH = 0.99  # highest sparsity of the comparison
_CCV = metric("fan_in/ccv")
_DYNAMIC = ("set", "rigl", "srigl")
_CLASSICAL = ("static random", "static uniform")

Found = tuple[Verdict, str]
"""Verdict, and the numbers that it stands on, in words."""


@dataclass(frozen=True)
class Statement:
    """Statement about a method that the comparison can check."""

    row: str
    """Row of Table 7, or section."""
    text: str
    """Statement of the paper."""
    methods: Sequence[str]
    """Methods of the comparison that it is about; each has its own verdict."""
    judge: Callable[[Runs, str], Found]
    """Function from the runs on one data set and the method to a verdict."""


def is_uniform(runs: Runs, method: str) -> Found:
    """Judge that the fan-in CCV is nowhere above a random mask's by more than the margin.

    Args:
        runs: Runs of the comparison on one data set.
        method: Method to judge.
    """
    return _judge_ccv(runs, method, Contrast.p_below, Contrast.p_above)


def is_emergent(runs: Runs, method: str) -> Found:
    """Judge that the fan-in CCV is above a random mask's by more than the margin at every sparsity.

    Args:
        runs: Runs of the comparison on one data set.
        method: Method to judge.
    """
    return _judge_ccv(runs, method, Contrast.p_above, Contrast.p_below)


def collapses(runs: Runs, method: str) -> Found:
    """Judge that a layer is pruned completely; pruning refuses to do so, and such a run is not recorded.

    That no run is missing speaks against it only at a sparsity that is high.

    Args:
        runs: Runs of the comparison on one data set.
        method: Method to judge.
    """
    lowest, words = _lowest_density(runs, method)
    if missing := _find_missing(runs, method):
        return Verdict.OPEN, f"{words}; no run at {missing}"
    if lowest <= 0:
        return Verdict.REPRODUCED, words
    if max(sparsities(runs)) < _HIGH:
        return Verdict.OPEN, f"{words}; {_HIGH:.0%} is not run"
    return Verdict.NOT_REPRODUCED, words


def keeps_every_layer(runs: Runs, method: str) -> Found:
    """Judge that no layer is pruned completely.

    Args:
        runs: Runs of the comparison on one data set.
        method: Method to judge.
    """
    lowest, words = _lowest_density(runs, method)
    if missing := _find_missing(runs, method):
        return Verdict.OPEN, f"{words}; no run at {missing}"
    return (Verdict.REPRODUCED if lowest > 0 else Verdict.NOT_REPRODUCED), words


def beats(others: Sequence[str], only_at: str | None = None) -> Callable[[Runs, str], Found]:
    """Make the function that judges whether a method is more accurate than others.

    Args:
        others: Methods that it is compared with.
        only_at: Sparsity that the statement is about, such as ``99%``; None: all.
    """

    def judge(runs: Runs, method: str) -> Found:
        found = {
            f"{other}, {sparsity}": contrast
            for other in others
            for sparsity, contrast in _compare(runs, method, other, late_accuracy).items()
            if only_at in (None, sparsity)
        }
        if not found:
            return Verdict.OPEN, f"no two seeds beside {', '.join(others)}"
        words = "; ".join(f"− {name} {difference(contrast, LEVEL)}" for name, contrast in found.items())
        verdict = judge_all_above(found, LEVEL)
        if lacking := [other for other in others if not any(name.startswith(f"{other}, ") for name in found)]:
            words += f"; not beside {', '.join(lacking)}"
            verdict = Verdict.OPEN if verdict is Verdict.REPRODUCED else verdict
        return verdict, words

    return judge


def is_no_better(runs: Runs, method: str) -> Found:
    """Judge that a method is not more accurate than random masks: at no sparsity by more than the plan's margin.

    Args:
        runs: Runs of the comparison on one data set.
        method: Method to judge.
    """
    contrasts = _compare(runs, method, RANDOM, late_accuracy)
    words = "; ".join(f"{sparsity}: {difference(contrast, LEVEL)}" for sparsity, contrast in contrasts.items())
    if not contrasts:
        return Verdict.OPEN, "no two seeds"
    corrected = holm([contrast.p_above() for contrast in contrasts.values()])
    return judge_none_above(contrasts, dict(zip(contrasts, corrected, strict=True)), _ACCURACY_MARGIN, LEVEL), words


STATEMENTS = (
    Statement("Weight pruning", "heterogeneity emergent", ("magnitude", "obd", "gmp"), is_emergent),
    Statement("SET", "heterogeneity emergent, towards scale-free", ("set",), is_emergent),
    Statement("RigL", "heterogeneity emergent", ("rigl",), is_emergent),
    Statement("RigL (section 4)", "growth by gradients is better than random growth", ("rigl",), beats(("set",))),
    Statement("SRigL", "constant fan-in: uniform (forced)", ("srigl",), is_uniform),
    Statement("SNIP", "whole layers can be pruned at high sparsity", ("snip",), collapses),
    Statement("GraSP", "heterogeneity uniform", ("grasp",), is_uniform),
    Statement("SynFlow", "heterogeneity uniform", ("synflow",), is_uniform),
    Statement("SynFlow (section 4)", "no layer is pruned completely", ("synflow",), keeps_every_layer),
    Statement("EOI", "heterogeneity uniform", ("eoi",), is_uniform),
    Statement(
        "CHT (section 4)",
        "at 99% better than other dynamic methods and the dense network",
        ("cht", "chts", "chts brf", "chtss"),
        beats((*_DYNAMIC, DENSE), "99%"),
    ),
    Statement("DNM (section 4)", "at 99% better than classical sparse starts", ("dnm",), beats(_CLASSICAL, "99%")),
    Statement("PSN", "a static profile is not better than a random mask", ("static lognormal",), is_no_better),
)
"""Statements in the order of the table."""


def statements_table(runs: Runs, title: str) -> Table:
    """Make the table of all statements with their verdicts.

    Args:
        runs: Runs of the comparison on one data set; none of them for the statements alone.
        title: Title of the data set.
    """
    rows = []
    for statement in STATEMENTS:
        for method in statement.methods:
            own = of_method(runs, method)
            verdict, words = statement.judge(runs, method) if own else (Verdict.NOT_RUN, "")
            rows.append([statement.row, statement.text, method, words, f"**{verdict}**"])
    return Table(
        f"Table 7, statement by statement: {title}", "", ["row", "statement", "method", "here", "verdict"], rows
    )


def _judge_ccv(
    runs: Runs, method: str, p_for: Callable[[Contrast, float], float], p_against: Callable[[Contrast, float], float]
) -> Found:
    """Judge on which side of the margin the fan-in CCV of a method minus a random mask's is, at every sparsity."""
    contrasts = _compare(runs, method, RANDOM, _CCV)
    words = _describe_ccv(runs, method)
    if not contrasts:
        return Verdict.OPEN, words
    if all(p_for(contrast, _MARGIN) < LEVEL for contrast in contrasts.values()):
        return (Verdict.OPEN if _find_missing(runs, method) else Verdict.REPRODUCED), words
    against = min(holm([p_against(contrast, _MARGIN) for contrast in contrasts.values()]))
    return Verdict.NOT_REPRODUCED if against < LEVEL else Verdict.OPEN, words


def _compare(runs: Runs, method: str, other: str, measure: Measure) -> Mapping[str, Contrast]:
    """Estimate a method minus another, by the name of each sparsity that has both with two seeds at least.

    Seeds are pairs, and the noise is that of the two methods alone: masks that are made from data vary a hundred times
    more than others do.
    """
    places = {f"{sparsity:.0%}": at_sparsity(runs, sparsity) for sparsity in sparsities(runs)}
    found = {name: own.layout(METHOD, measure, pooled=False).difference(method, other) for name, own in places.items()}
    return {name: contrast for name, contrast in found.items() if contrast is not None and contrast.n >= 2}


def _find_missing(runs: Runs, method: str) -> str:
    """Name the sparsities at which a method has no run; where pruning is refused there is none."""
    missing = set(sparsities(runs)) - {run.cell[SPARSITY] for run in of_method(runs, method)}
    return ", ".join(f"{sparsity:.0%}" for sparsity in sorted(missing))


def _describe_ccv(runs: Runs, method: str) -> str:
    """Describe the fan-in CCV beside that of random masks: ``90%: 0.95 (random 0.10)``."""
    parts = []
    for sparsity in sparsities(runs):
        cells = at_sparsity(runs, sparsity)
        values = [[_CCV(run) for run in of_method(cells, name)] for name in (method, RANDOM)]
        if values[0]:
            own, random = (number(sum(v) / len(v)) if v else "–" for v in values)
            parts.append(f"{sparsity:.0%}: {own} (random {random})")
    return "fan-in CCV " + "; ".join(parts)


def _lowest_density(runs: Runs, method: str) -> tuple[float, str]:
    """Find the lowest density of a layer over all runs of a method."""
    own = of_method(runs, method)
    lowest = min(
        1 - value for run in own for name, value in run.metrics.items() if name.startswith("sparsity/realised/")
    )
    highest = max(run.cell[SPARSITY] for run in own)
    return lowest, f"sparsest layer keeps {number(100 * lowest)}%, up to {highest:.0%} sparsity"
