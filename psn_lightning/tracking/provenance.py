"""Code and machine of a run, as tags."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("psn_lightning", "torch", "lightning", "torchmetrics", "mlflow", "numpy")


def provenance() -> dict[str, str]:
    """Versions of the packages, kind of machine, and git commit of a checkout."""
    tags = {f"version.{package}": version(package) for package in _PACKAGES}
    tags["version.python"] = platform.python_version()
    tags["machine"] = machine()
    commit = git_commit()
    if commit:
        tags["git.commit"] = commit
        tags["git.dirty"] = str(bool(_git("status", "--porcelain", "--untracked-files=no"))).lower()
    return tags


def git_commit() -> str:
    """Commit of this package's checkout; empty outside of one, also where it is installed within another one."""
    return _git("rev-parse", "HEAD") if _git("ls-files", "--error-unmatch", Path(__file__).name) else ""


def machine() -> str:
    """Kind of machine: ``Linux x86_64, 2 cores``."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def _git(*arguments: str) -> str:
    """Output of git in this package's folder; empty without git or a checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
