"""Claims that are not decided: why, and which runs would decide them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from scipy import stats

from psn_lightning.commands.markdown import markdown_table
from psn_lightning.paper.report.verdicts import Claim, Effect, Verdict, difference

_MANY = 1000  # seeds; a guess beyond them says no more than that


def undecided_table(claims: Iterable[Claim]) -> str:
    """Make the table of the claims that are open or not run.

    Args:
        claims: Claims with their verdicts.
    """
    rows = [
        [claim.title, claim.data, claim.verdict, _say_why(claim), _say_what_decides(claim)]
        for claim in claims
        if claim.verdict in (Verdict.OPEN, Verdict.NOT_RUN)
    ]
    if not rows:
        return "Every claim is decided."
    return markdown_table(["the paper says", "data", "verdict", "why", "what would decide"], rows)


def _say_why(claim: Claim) -> str:
    """Say what keeps a claim from a verdict."""
    if claim.verdict is Verdict.NOT_RUN:
        return claim.ours if claim.left else "no run of it is planned"
    if claim.corrected:
        return f"shown alone, not after Holm's correction over {claim.corrected} data sets"
    if claim.effect is None:
        return claim.ours
    return f"{difference(claim.effect.contrast, claim.effect.alpha)} leaves both answers"


def _say_what_decides(claim: Claim) -> str:
    """Say which runs might decide a claim: those that are left, or how many more seeds than the plan has."""
    seeds = math.nan if claim.effect is None else _guess_seeds(claim.effect)
    if math.isinf(seeds):
        return "no run: the standard error of the paper's own mean is too large"
    if claim.left:
        return f"`psn-train reproduce {claim.reproduction}`, {claim.left} runs left"
    if claim.corrected:
        return "the runs on the other data sets; nothing if they are made"
    if math.isnan(seeds):
        return "nothing that is planned"
    return f"nothing that is planned: at this spread it takes at least {min(math.ceil(seeds), _MANY)} seeds"


def _guess_seeds(effect: Effect) -> float:
    """Guess how many seeds would decide if the estimate is true: its distance to the bound beside its error."""
    contrast, reach = effect.contrast, float(stats.norm.ppf(1 - effect.alpha))
    needed = (abs(abs(contrast.difference) - effect.margin) / reach) ** 2 - effect.fixed_error**2
    if needed <= 0:
        return math.inf if effect.fixed_error else _MANY
    return max(contrast.n * (contrast.error**2 - effect.fixed_error**2) / needed, contrast.n + 1)
