"""Summary of the report on one page: scope, method, claims with their verdicts, what was easy, what was difficult."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from psn_lightning.commands.markdown import markdown_table
from psn_lightning.paper.plan import Plan, PlannedClaim
from psn_lightning.paper.report import published
from psn_lightning.paper.report.verdicts import Claim, Size, Verdict, difference

HEADLINES = ("static-equal", "equilibrium", "advantage")
"""Names of the claims that the README shows."""

_LISTED = 3  # parts that are not run and listed by name

_SCOPE = (
    "Every claim of arXiv 2604.10560 about accuracy, gradients and RigL's equilibrium that a run can decide, and one "
    "claim of ours about the scale of the first weights. MNIST and Fashion-MNIST are complete; of EMNIST and Forest "
    "Cover there are subsets, on which conditions are compared and accuracies are not."
)
_METHOD = (
    "The paper's code is not public; everything here is written from its text. Estimator, tests, margins, seeds and "
    "what would refute each claim were committed before the runs (conf/reproduce/plan.yaml). Accuracy is the mean over "
    "the last third of the epochs; two looks at alpha 0.0294 (one at 0.05 with three seeds); direction and size are "
    "two verdicts. *Exploratory* verdicts are on runs that are older than the plan."
)
_EASY = (
    "Topologies, Eqs. 6 to 8, ceilings and dead inputs follow from the text to the printed digits.",
    "The runs need no GPU: two cores of an ordinary processor, for the hours that are listed by claim.",
)
_DIFFICULT = (
    "RigL's drop fraction, period and end are lost from the text, as are the forms of some profiles.",
    "The scale of the first weights (Eq. 9) does not give the printed accuracies; that of nn.Linear is nearer.",
    "Table 4 is not where canonical RigL ends; which choice of an implementation would give it has to be guessed.",
    "Accuracies of the last epoch vary by more than many of the differences that are claimed.",
)


def summary_page(plan: Plan, claims: Sequence[Claim]) -> str:
    """Write the summary, in the parts of the ML Reproducibility Challenge.

    Args:
        plan: Analysis plan.
        claims: Claims with their verdicts.
    """
    return "\n\n".join(
        [
            f"**Scope.** {_SCOPE}",
            f"**Method.** {_METHOD}",
            f"**Results.**\n\n{summary_table(plan, claims)}",
            f"**What was easy.**\n\n{as_list(_EASY)}",
            f"**What was difficult.**\n\n{as_list(_DIFFICULT)}",
            f"**What the authors should be asked.**\n\n{as_list(published.QUESTIONS)}",
        ]
    )


def summary_table(plan: Plan, claims: Iterable[Claim]) -> str:
    """Format a row for each claim of the plan, with its verdicts and differences by data set.

    Args:
        plan: Analysis plan.
        claims: Claims with their verdicts.
    """
    rows = [
        [planned.claim, planned.source, _list_verdicts(planned, own), _list_results(planned, own)]
        for planned, own in _group(plan, claims)
    ]
    return markdown_table(["the paper says", "where", "verdict", "measured here: difference [interval], seeds"], rows)


def headline_table(plan: Plan, claims: Iterable[Claim]) -> str:
    """Format the verdicts on the claims in :data:`HEADLINES`, in brief: without sizes, the parts not run are counted.

    Args:
        plan: Analysis plan.
        claims: Claims with their verdicts.
    """
    own = (claim for claim in claims if claim.name in HEADLINES)
    rows = [[planned.claim, _list_verdicts(planned, found, brief=True)] for planned, found in _group(plan, own)]
    return markdown_table(["the paper says", "verdict here"], rows)


def _group(plan: Plan, claims: Iterable[Claim]) -> list[tuple[PlannedClaim, list[Claim]]]:
    """Group claims with verdicts by the claim of the plan, in the plan's order."""
    found: dict[str, list[Claim]] = {}
    for claim in claims:
        found.setdefault(claim.name, []).append(claim)
    return [(planned, found[name]) for name, planned in plan.claims.items() if name in found]


def as_list(sentences: Iterable[str]) -> str:
    """Format sentences as a Markdown list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _list_verdicts(planned: PlannedClaim, claims: Sequence[Claim], brief: bool = False) -> str:
    """List the verdicts and the data sets that have them."""
    places: dict[str, list[Claim]] = {}
    for claim in claims:
        if claim.verdict is not Verdict.NOT_RUN:
            size = "" if brief or claim.size is Size.NONE else f", size {claim.size}"
            word = "" if claim.basis.startswith("plan") else " (exploratory)"
            places.setdefault(f"**{claim.verdict}**{size}{word}", []).append(claim)
    listed = {verdict: _describe_places(planned, own) for verdict, own in places.items()}
    missing = [claim for claim in claims if claim.verdict is Verdict.NOT_RUN]
    if missing:
        few = len(missing) <= _LISTED and not brief
        where = _describe_places(planned, missing) if few else f"{len(missing)} of {len(claims)} parts"
        listed[f"**{Verdict.NOT_RUN}**"] = where
    return "; ".join(f"{verdict}: {where}" for verdict, where in listed.items())


def _list_results(planned: PlannedClaim, claims: Sequence[Claim]) -> str:
    """List what was measured, by data set; claims without an effect in full."""
    results = []
    for claim in claims:
        if claim.verdict is Verdict.NOT_RUN:
            continue
        effect = claim.effect if claim.of_accuracy else None
        text = claim.ours if effect is None else difference(effect.contrast, effect.alpha)
        source = "" if claim.paper.startswith("predicted") else "the paper: "
        printed = f" ({source}{claim.paper})" if claim.paper else ""
        results.append(f"{_describe_place(planned, claim)}: {text}{printed}")
    return "; ".join(results) or "–"


def _describe_place(planned: PlannedClaim, claim: Claim) -> str:
    """Describe data set and, where a claim is judged under several growth rules, the rule."""
    return _describe_places(planned, [claim])


def _describe_places(planned: PlannedClaim, claims: Sequence[Claim]) -> str:
    """Describe the data sets of claims, grouped by the growth rule where a claim is judged under several."""
    groups: dict[str, list[str]] = {}
    for claim in claims:
        rule = re.search(r"\(([^()]*growth[^()]*)\)$", claim.title) if claim.title != planned.claim else None
        data = re.sub(r" \(.*\)", "", claim.data)  # without the number of rows of a subset
        groups.setdefault(rule[1] if rule else "", []).append(data)
    parts = (f"{' and '.join(own)}{f' ({rule})' if rule else ''}" for rule, own in groups.items())
    return ", ".join(parts)
