"""Analysis plan: the claims that are judged, by which runs and tests, written down before the runs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from psn_lightning.commands.shipped import local_or_shipped
from psn_lightning.errors import SettingError
from psn_lightning.paper.recorded_run import RecordedRun

PLAN = Path("conf") / "reproduce" / "plan.yaml"
"""File of the plan in a checkout."""


def reproductions() -> Path:
    """Folder of the files that describe reproductions: that of the working directory, or the package's."""
    return local_or_shipped("reproduce")


def plan_file() -> Path:
    """File of the plan; a folder of one's own reproductions may have none."""
    return reproductions() / PLAN.name


def plan_digest() -> str:
    """Digest of the plan as it is now; empty without one."""
    return _digest(plan_file().read_bytes()) if plan_file().is_file() else ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@dataclass(frozen=True)
class PlannedClaim:
    """Claim as the plan has it."""

    name: str
    """Name in the plan."""
    claim: str
    """Statement of the paper."""
    source: str
    """Place in the paper."""
    experiment: str | Mapping[str, str]
    """Reproduction whose runs decide, or several by what they are for."""
    data: list[str]
    """Short names of the data sets."""
    judged: str
    """Test of the claim, in words."""
    refuted: str
    """Result that would refute the claim or the prediction."""
    paper: Any = None
    """Printed numbers."""
    predicted: Any = None
    """Predictions, made before the runs."""
    known: str = ""
    """What was known before the runs."""

    @property
    def experiments(self) -> Mapping[str, str]:
        """Reproductions by what they are for; a single one is for nothing in particular."""
        return {"": self.experiment} if isinstance(self.experiment, str) else self.experiment


@dataclass(frozen=True)
class Plan:
    """Analysis plan."""

    claims: Mapping[str, PlannedClaim]
    """Claims by name."""
    margins: Mapping[str, float]
    """Margins by name."""
    alpha: float
    """Level of a claim with one look."""
    alpha_of_two: float
    """Level of each of two looks."""
    digest: str
    """Digest of the file."""


def load_plan() -> Plan:
    """Read the plan.

    Raises:
        SettingError: If the file is missing, or is not a plan.
    """
    path = plan_file()
    if not path.is_file():
        raise SettingError(f"{path} is not a file: without an analysis plan no claim is judged")
    content = yaml.safe_load(path.read_text())
    try:
        claims = {name: PlannedClaim(name, **claim) for name, claim in content["claims"].items()}
        return Plan(claims, content["margins"], content["alpha"], content["alpha_of_two"], plan_digest())
    except (TypeError, KeyError, AttributeError) as error:
        raise SettingError(f"{path} is not an analysis plan: {error}") from error


def is_planned(run: RecordedRun) -> bool:
    """Return whether a run was made under an analysis plan."""
    return bool(run.plan)


def find_contradictions(runs: Iterable[RecordedRun]) -> list[str]:
    """Compare the plan that each run names with the plan in the commit that it was made from.

    Args:
        runs: Recorded runs; those without a plan, or whose commit is not in this checkout, are passed over.

    Returns:
        Sentence for each commit whose plan is another one.
    """
    found: list[str] = []
    if shutil.which("git") is None:
        return found
    for commit, digest in sorted({(run.commit, run.plan) for run in runs if run.plan and run.commit}):
        shown = subprocess.run(["git", "show", f"{commit}:{PLAN.as_posix()}"], capture_output=True, check=False)
        if shown.returncode == 0 and _digest(shown.stdout) != digest:
            found.append(f"runs of commit {commit[:7]} name plan {digest}, but the commit has {_digest(shown.stdout)}")
    return found
