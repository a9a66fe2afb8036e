"""Runs grouped by configuration, and their metrics averaged over the seeds."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from mlflow.entities import Run

from psn_lightning.checkpoints.differences import decisive
from psn_lightning.errors import SettingError

_METRICS = ("test/accuracy", "val/accuracy", "sparsity/realised", "fan_in/ccv", "time/epoch_seconds")
_SEED = "seed_everything"


@dataclass(frozen=True)
class Comparison:
    """Runs grouped by configuration.

    Args:
        settings: Settings in which the configurations differ, shape ``(n_configurations, n_settings)``.
        in_step: Redundant settings: each groups the runs exactly as an earlier setting does; mapped to the latter.
        mean: Mean of each metric over the seeds, shape ``(n_configurations, n_metrics)``.
        std: Standard deviation (n - 1) over the seeds, shape ``(n_configurations, n_metrics)``; NaN for one seed.
        n: Number of seeds of each mean, shape ``(n_configurations, n_metrics)``.
        left_out: Number of runs that were not used, by reason.
    """

    settings: pd.DataFrame
    in_step: dict[str, str]
    mean: pd.DataFrame
    std: pd.DataFrame
    n: pd.DataFrame
    left_out: dict[str, int]

    def numbers(self) -> pd.DataFrame:
        """Table of numbers: all settings, and a column each for mean, standard deviation and n of each metric."""
        parts = [self.settings]
        for metric in self.mean:
            columns = {"mean": self.mean, "std": self.std, "n": self.n}
            parts.append(pd.DataFrame({f"{metric} {name}": part[metric] for name, part in columns.items()}))
        return pd.concat(parts, axis="columns")


def compare(runs: Sequence[Run], metrics: Sequence[str] | None = None) -> Comparison:
    """Group runs by configuration.

    Runs with equal configuration and seed are repetitions of one measurement; the newest one counts.

    Args:
        runs: Runs, newest first.
        metrics: Names of metrics; the standard metrics that the runs have if None.

    Raises:
        SettingError: If no run has finished, or no run has one of the metrics.
    """
    finished = [run for run in runs if run.info.status == "FINISHED" and run.data.params]
    if not finished:
        raise SettingError(
            f"none of {len(runs)} runs has finished: give another filter, or wait for the runs"
            if runs
            else "no run matches: give another filter or experiment"
        )
    settings = pd.DataFrame([{_SEED: "", **decisive(run.data.params), **_get_ticket(run)} for run in finished])
    settings = settings.fillna("")
    seeds = settings.pop(_SEED)
    known = {key for run in finished for key in run.data.metrics}
    chosen = list(metrics) if metrics else [metric for metric in _METRICS if metric in known]
    unknown = sorted(set(chosen) - known)
    if unknown:
        nearest = difflib.get_close_matches(unknown[0], known, 3, cutoff=0.3) or sorted(known)[:3]
        raise SettingError(
            f"--metric {unknown[0]} is not in any finished run; the metrics of the runs include {', '.join(nearest)}"
        )
    differing = settings[[key for key in settings if settings[key].nunique() > 1]]
    repeated = settings.assign(**{_SEED: seeds}).duplicated()
    values = pd.DataFrame([{metric: run.data.metrics.get(metric) for metric in chosen} for run in finished])
    rows = settings.apply(_convert_to_numbers).groupby(list(settings)).ngroup()[~repeated]
    groups = values[~repeated].groupby(rows)
    left_out = {"not finished": len(runs) - len(finished), "repeated": int(repeated.sum())}
    return Comparison(
        settings=differing.loc[~repeated].groupby(rows).first(),
        in_step=_find_redundant(differing),
        mean=groups.mean(),
        std=groups.std(),
        n=groups.count(),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _get_ticket(run: Run) -> dict[str, str]:
    """Lottery ticket that a run has trained: its configuration is that of the dense network."""
    return {"ticket": run.data.tags["ticket"]} if "ticket" in run.data.tags else {}


def _find_redundant(settings: pd.DataFrame) -> dict[str, str]:
    """Find the settings that group the runs exactly as an earlier setting does, and map each to the latter.

    A number with more than two values is not redundant: in a search every configuration has values of its own.
    """
    first: dict[bytes, str] = {}
    divisions = {str(key): settings[key].factorize()[0].tobytes() for key in settings}
    numbers = {key for key in divisions if pd.to_numeric(settings[key], errors="coerce").nunique() > 2}
    return {
        key: first[division]
        for key, division in divisions.items()
        if first.setdefault(division, key) != key and key not in numbers
    }


def _convert_to_numbers(column: pd.Series) -> pd.Series:
    """Convert a column of strings to numbers if all are numbers, so that rows are sorted by value."""
    numbers = pd.to_numeric(column, errors="coerce")
    return column if numbers.isna().any() else numbers
