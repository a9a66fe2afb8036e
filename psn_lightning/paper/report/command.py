"""``psn-train report``: tables, figures and claims of the paper, compared with the record of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.paper.record import RECORD, read
from psn_lightning.paper.report.explore import explore_page
from psn_lightning.paper.report.judging import all_claims
from psn_lightning.paper.report.pages import page, tally
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.sections import sections
from psn_lightning.paper.report.text import TITLE, report
from psn_lightning.paper.report.writing import brought_up_to_date, write
from psn_lightning.paper.tracked_runs import from_experiment

_UNKNOWN_RUN_ERRORS = (
    LookupError,
    ValueError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
)
"""Errors that tables and figures raise for a run with an unknown data set or cell."""


def run(arguments: Sequence[str]) -> None:
    """Write the report.

    Args:
        arguments: Command line after ``psn-train report``.

    Raises:
        SettingError: If there are no runs, a run cannot be reported, a file cannot be written, or a file of ``--into``
            has no section for results.
    """
    options = _make_parser().parse_args(list(arguments))
    if options.experiment:
        source, recorded_runs = (
            f"MLflow experiment {options.experiment}",
            from_experiment(options.uri, options.experiment),
        )
    else:
        source, recorded_runs = str(options.record), list(read(options.record).values())
    if not recorded_runs:
        raise SettingError(f"{source} has no runs: psn-train reproduce NAME adds some")
    runs = Runs(recorded_runs)
    try:
        claims = all_claims(runs)
        files = {path: brought_up_to_date(path, sections(runs, claims)).encode() for path in options.into}
        text, figures = report(runs, claims, source)
    except SettingError:
        raise
    except _UNKNOWN_RUN_ERRORS as error:
        raise SettingError(
            f"{source} has a run that cannot be reported ({type(error).__name__}: {in_one_line(error)}), such as "
            "one of an unknown data set or cell: remove the run; --debug shows the table or figure that failed"
        ) from error
    files |= {options.out / name: content for name, content in figures.items()}
    files |= {
        options.out / "report.md": text.encode(),
        options.out / "report.html": page(text, TITLE, figures).encode(),
        options.out / "explore.html": explore_page(runs, TITLE).encode(),
    }
    write(files)
    written = [*(options.out / name for name in ("report.md", "report.html", "explore.html")), *options.into]
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{len(runs)} runs; claims: {tally(claims)}")
    console.print(f"Written: {', '.join(map(str, written))}")


def _make_parser() -> CommandParser:
    parser = CommandParser(prog="psn-train report", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the report; default: report")
    parser.add_argument("--record", type=Path, default=RECORD, help=f"record of runs; default: {RECORD}")
    parser.add_argument("--experiment", help="MLflow experiment to report instead of the record")
    parser.add_argument(
        "--uri", help="MLflow store of --experiment; default: MLFLOW_TRACKING_URI, or sqlite:///mlruns/mlflow.db"
    )
    parser.add_argument(
        "--into", type=Path, nargs="+", default=[], metavar="FILE", help="files with sections of results to update"
    )
    return parser
