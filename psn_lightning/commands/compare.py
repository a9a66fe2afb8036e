"""``psn-train compare``: table of runs with one row for each configuration, averaged over the seeds."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from psn_lightning.commands.comparison import compare
from psn_lightning.commands.comparison_table import format_cells, print_table
from psn_lightning.commands.markdown import markdown_table
from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError
from psn_lightning.tracking.store import Store

_PAGE = 1000


def run(arguments: Sequence[str]) -> None:
    """Print a comparison of runs.

    Args:
        arguments: Command line after ``psn-train compare``.

    Raises:
        SettingError: If no run is found, or MLflow refuses the filter.
    """
    options = _make_parser().parse_args(list(arguments))
    runs = find(options.uri, options.experiment, options.filter)
    comparison = compare(runs, options.metric)
    if options.format == "csv":
        comparison.numbers().to_csv(sys.stdout, index=False)
    elif options.format == "markdown":
        cells = format_cells(comparison).astype(str)
        sys.stdout.write(markdown_table(list(map(str, cells.columns)), cells.to_numpy().tolist()))
    else:
        print_table(comparison)


def find(uri: str | None, experiment: str, wanted: str | None) -> list[Run]:
    """Find the training runs of an experiment.

    Args:
        uri: MLflow store; the default store if None.
        experiment: Name of the experiment.
        wanted: Filter in MLflow's search language; all runs if None.

    Returns:
        Runs, newest first.

    Raises:
        SettingError: If the store cannot be used, has no such experiment, or refuses the filter.
    """
    store = Store(uri)
    found = None
    if not store.is_new:
        with store.told():
            store.check()
            found = store.client.get_experiment_by_name(experiment)
            if found is not None:
                store.mark_killed([found.experiment_id])
    if found is None:
        raise SettingError(
            f"--experiment {experiment!r} is not in {store.shown}: give the tracking.experiment of psn-train fit"
        )
    condition = "tags.stage = 'fit'" + (f" AND {wanted}" if wanted else "")
    runs: list[Run] = []
    token: str | None = ""
    while token is not None:
        try:
            page = store.client.search_runs(
                [found.experiment_id], condition, max_results=_PAGE, page_token=token or None
            )
        except MlflowException as error:
            raise SettingError(f"filter {wanted!r} is refused by MLflow: {error.message}") from error
        runs += page
        token = page.token or None
    return runs


def _make_parser() -> CommandParser:
    parser = CommandParser(prog="psn-train compare", description=__doc__)
    parser.add_argument(
        "filter", nargs="?", help="filter in MLflow's search language: \"tags.study = 'fashion_profiles'\""
    )
    parser.add_argument("--experiment", default="psn_lightning", help="MLflow experiment; default: psn_lightning")
    parser.add_argument("--uri", help="MLflow store; default: MLFLOW_TRACKING_URI, or sqlite:///mlruns/mlflow.db")
    parser.add_argument(
        "--metric", action="append", help="metric; repeat the option for several; default: the standard metrics"
    )
    parser.add_argument(
        "--format", choices=["text", "csv", "markdown"], default="text", help="output format; default: text"
    )
    return parser
