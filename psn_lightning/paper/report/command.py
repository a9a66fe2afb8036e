"""``psn-train report``: the paper's tables, figures and claims beside what was measured, from the record alone."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from psn_lightning.commands.markdown import as_text, markdown_table
from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.paper.record import RECORD, RecordedRun, from_experiment, key_of, read
from psn_lightning.paper.report.dynamic_claims import dynamic_claims
from psn_lightning.paper.report.equilibria import equilibrium_tables, settled_table
from psn_lightning.paper.report.figures import pictures
from psn_lightning.paper.report.law import law_table, layer_table, layers
from psn_lightning.paper.report.pages import claims_table, page, table_markdown, tally, untitled
from psn_lightning.paper.report.paper_tables import choices, paper_tables
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.static_claims import static_claims
from psn_lightning.paper.report.statistics import MARGIN
from psn_lightning.paper.report.topology_claims import topology_claims
from psn_lightning.paper.report.verdicts import Claim
from psn_lightning.paper.report.writing import brought_up_to_date, write
from psn_lightning.paper.reproduction import FOLDER, cells_of, load, names

_TITLE = "Profiled Sparse Networks: the paper and our runs"
_HOW = f"""\
Accuracies are those of the last epoch on the test set, in per cent; differences are in points. *95%* is a
bootstrap interval of the mean (percentiles of 9999 resamples), an interval after a difference is Student's.
Differences are paired by seed; the p-values of a table's t-tests are corrected by Holm's method; *d* is the
mean difference over its standard deviation (d_z). *p (TOST)* below 0.05 shows that two accuracies are the
same within ±{MARGIN} points; *detectable* is the smallest true difference that this number of seeds would
have found with probability 0.8. Against the paper's printed mean, *same* and *differs* say that ours is
certainly within, or certainly not within, ±{MARGIN} points of it; *open* is neither; *subset* was trained and
tested on other rows. A claim is *reproduced* or *not reproduced* where the runs are enough to say so at the
5% level.
"""
_STRANGE = (LookupError, ValueError, TypeError, ArithmeticError, AttributeError, AssertionError, RuntimeError)
"""What tables and figures raise over a cell or a data set that they have never heard of."""


def run(arguments: Sequence[str]) -> None:
    """Write the report.

    Raises:
        SettingError: If there is nothing to report, nothing can be written, or a file has no place for results.
    """
    options = _parser().parse_args(list(arguments))
    if options.experiment:
        source, recorded_runs = (
            f"MLflow experiment {options.experiment}",
            from_experiment(options.uri, options.experiment),
        )
    else:
        source, recorded_runs = str(options.record), list(read(options.record).values())
    if not recorded_runs:
        raise SettingError(f"{source} has no runs: psn-train reproduce NAME makes some")
    runs = Runs(recorded_runs)
    try:
        claims = all_claims(runs)
        files = {path: brought_up_to_date(path, sections(runs, claims)).encode() for path in options.into}
        text, figures = report(runs, claims, source)
    except SettingError:
        raise
    except _STRANGE as error:
        raise SettingError(
            f"{source}: the report does not know what to make of a run ({type(error).__name__}: {in_one_line(error)}); "
            "--debug shows where, take the run out"
        ) from error
    files |= {options.out / name: content for name, content in figures.items()}
    files |= {
        options.out / "report.md": text.encode(),
        options.out / "report.html": page(text, _TITLE, figures).encode(),
    }
    write(files)
    written = [options.out / "report.md", options.out / "report.html", *options.into]
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{len(runs)} runs; claims: {tally(claims)}")
    console.print(f"Written: {', '.join(map(str, written))}")


def all_claims(runs: Runs) -> list[Claim]:
    """Every claim of the paper that this program can judge."""
    return [*topology_claims(), *static_claims(runs), *dynamic_claims(runs)]


def report(runs: Runs, claims: Sequence[Claim], source: str) -> tuple[str, dict[str, bytes]]:
    """The whole report.

    Args:
        runs: What was measured.
        claims: Judged by it.
        source: Where the runs are from, in words.

    Returns:
        Its Markdown, and its figures (PNG) by their paths beside it.
    """
    parts = [
        f"# {_TITLE}",
        f"{_extent(runs, source)}\n\n{_HOW}",
        "## Claims",
        f"{tally(claims)}.",
        claims_table(claims),
    ]
    parts.append("## Figures")
    figures = {}
    for picture in pictures(runs):
        name, content = f"figures/{picture.name}.png", io.BytesIO()
        picture.figure.savefig(content, format="png", dpi=110)
        figures[name] = content.getvalue()
        parts.append(f"![{picture.caption}]({name})\n\n{picture.caption}")
    parts += ["## Tables", *map(table_markdown, [*paper_tables(runs), *equilibrium_tables(runs)])]
    parts += ["## What was run, and what was not", _status(runs)]
    return "\n\n".join(part.strip() for part in parts) + "\n", figures


def sections(runs: Runs, claims: Sequence[Claim]) -> dict[str, str]:
    """What other files have of the results, by name; what there are no runs for is left out."""
    found, single = layers(runs), runs.of("equilibrium-variants")
    together = runs.of("equilibrium-combinations", "fashion")
    tables = {
        "table 4": settled_table(runs) if together else None,
        "choices": choices(single) if single else None,
        "choices together": choices(together) if together else None,
        "law": law_table(found) if found else None,
        "layers": layer_table(found) if found else None,
    }
    summary = f"{_extent(runs, str(RECORD))} Claims: {tally(claims)}.\n\n{claims_table(claims)}"
    return {"claims": summary, **{name: untitled(table) for name, table in tables.items() if table}}


def _extent(runs: Runs, source: str) -> str:
    dates = sorted(run.date[:10] for run in runs.all)
    hours = sum(run.seconds for run in runs.all) / 3600
    storages = ", ".join(sorted({run.storage for run in runs.all}))
    first, last = dates[0], dates[-1]
    when = first if first == last else f"{first} to {last}"
    where = f"on {_machines(runs.all)}, storage {storages}"
    return as_text(f"{len(runs)} runs from {source}, {when}, {hours:.1f} hours of runs (several at a time) {where}.")


def _machines(runs: Iterable[RecordedRun]) -> str:
    return ", ".join(sorted({run.machine for run in runs}))


def _status(runs: Runs) -> str:
    """Recorded and planned runs of each reproduction; nothing where the grids are not here."""
    if not FOLDER.is_dir():
        return f"{FOLDER} is not here: what was planned is not known."
    recorded_keys = {run.key for run in runs.all}
    rows = []
    for name in names():
        reproduction = load(name)
        for data in reproduction.data:
            cells = [key_of(name, data, cell, seed) for cell, seed in cells_of(reproduction, data)]
            done = sum(key in recorded_keys for key in cells)
            rows.append([name, reproduction.title, data, str(done), str(len(cells) - done)])
    return markdown_table(["reproduction", "what", "data", "run", "not run"], rows)


def _parser() -> CommandParser:
    parser = CommandParser(prog="psn-train report", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder; default report")
    parser.add_argument("--record", type=Path, default=RECORD, help=f"default {RECORD}")
    parser.add_argument("--experiment", help="instead of the record: reproductions in an MLflow experiment")
    parser.add_argument("--uri", help="its MLflow store; default MLFLOW_TRACKING_URI, else sqlite:///mlruns/mlflow.db")
    parser.add_argument(
        "--into", type=Path, nargs="+", default=[], metavar="FILE", help="files whose results are brought up to date"
    )
    return parser
