"""Verdicts on all claims of the paper."""

from __future__ import annotations

from psn_lightning.paper.plan import load_plan, plan_file
from psn_lightning.paper.report.diagnostic_claims import diagnostic_claims
from psn_lightning.paper.report.equilibrium_claims import equilibrium_claims
from psn_lightning.paper.report.evidence import PLANNED, Analysis, Assessment
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.start_claims import start_claims
from psn_lightning.paper.report.table6_claims import table6_claims
from psn_lightning.paper.report.verdicts import Claim


def all_claims(runs: Runs, analysis: Analysis = PLANNED) -> list[Claim]:
    """Judge every claim of the paper; none without the analysis plan.

    Args:
        runs: Recorded runs.
        analysis: Estimator and noise; those of the plan by default.
    """
    if not plan_file().is_file():
        return []
    assessment = Assessment(load_plan(), runs, analysis)
    return [
        *table6_claims(assessment),
        *diagnostic_claims(assessment),
        *equilibrium_claims(assessment),
        *start_claims(assessment),
    ]
