"""``psn-train report``: tables, figures and claims of the paper, compared with the record of runs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from psn_lightning.commands.markdown import as_text, markdown_table
from psn_lightning.commands.messages import CommandParser
from psn_lightning.errors import SettingError, in_one_line
from psn_lightning.figure_style import save_figure
from psn_lightning.paper.plan import find_contradictions, is_planned, load_plan, plan_digest, plan_file
from psn_lightning.paper.record import RECORD, read
from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report import published
from psn_lightning.paper.report.architectures import architectures_markdown
from psn_lightning.paper.report.coverage import cost_by_claim, count_planned, load_grids
from psn_lightning.paper.report.diagnostic_claims import diagnostic_claims
from psn_lightning.paper.report.dynamic_claims import dynamic_claims
from psn_lightning.paper.report.equilibria import equilibrium_tables, settled_table, unseen_table
from psn_lightning.paper.report.evidence import ALTERNATIVES, PLANNED, Analysis, Assessment
from psn_lightning.paper.report.explore import explore_page
from psn_lightning.paper.report.figures import pictures
from psn_lightning.paper.report.law import law_table, layer_table, layers
from psn_lightning.paper.report.method_pages import methods_markdown, sharing_markdown, table7_markdown
from psn_lightning.paper.report.pages import checks_table, claims_table, page, table_markdown, tally, untitled
from psn_lightning.paper.report.paper_tables import choices, paper_tables
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.summary import as_list, headline_table, summary_page
from psn_lightning.paper.report.table6_claims import table6_claims
from psn_lightning.paper.report.topology_claims import topology_claims
from psn_lightning.paper.report.verdicts import Claim, Verdict
from psn_lightning.paper.report.writing import brought_up_to_date, write
from psn_lightning.paper.tracked_runs import from_experiment

_TITLE = "Profiled Sparse Networks: the paper and our runs"
_EXPLANATION = """\
The accuracy of a run is the mean of its test accuracies over the last third of its epochs, in per cent; last and
best epoch stand beside it. Differences are in points, from the additive model cell + seed with the noise pooled over
all cells of a table; intervals are Student's t, 95% in tables. *equal within* is the smallest margin that is shown.
Claims are judged by the analysis plan, conf/reproduce/plan.yaml: *by* says whether the runs were made under it (and in
which of its looks), or are older, which makes a verdict exploratory. *size* says whether the printed effect is one that
a replication could find.
"""
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
        options.out / "report.html": page(text, _TITLE, figures).encode(),
        options.out / "explore.html": explore_page(runs, _TITLE).encode(),
    }
    write(files)
    written = [*(options.out / name for name in ("report.md", "report.html", "explore.html")), *options.into]
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{len(runs)} runs; claims: {tally(claims)}")
    console.print(f"Written: {', '.join(map(str, written))}")


def all_claims(runs: Runs, analysis: Analysis = PLANNED) -> list[Claim]:
    """Judge every claim of the paper; none without the analysis plan.

    Args:
        runs: Recorded runs.
        analysis: Estimator and noise; those of the plan by default.
    """
    if not plan_file().is_file():
        return []
    assessment = Assessment(load_plan(), runs, analysis)
    return [*table6_claims(assessment), *diagnostic_claims(assessment), *dynamic_claims(assessment)]


def report(runs: Runs, claims: Sequence[Claim], source: str) -> tuple[str, dict[str, bytes]]:
    """Make the report.

    Args:
        runs: Recorded runs.
        claims: Claims with their verdicts.
        source: Source of the runs, in words.

    Returns:
        Markdown, and figures (PNG) by path relative to the Markdown file.
    """
    parts = [
        f"# {_TITLE}",
        f"{_describe_runs(runs, source)} Claims: {tally(claims)}." if claims else f"{plan_file()} is not here.",
        summary_page(load_plan(), claims) if claims else "",
        "## Claims by data set",
        _EXPLANATION,
        claims_table(claims) if claims else "No claim is judged.",
        "## Would another analysis say the same?",
        _compare_analyses(runs, claims),
        "## Consistency of the topologies",
        "Computed, not measured; they count as no claim: bell width, rate and forms were chosen so that they hold.",
        checks_table(topology_claims()),
    ]
    parts += ["## Figures", "All runs, to explore: [explore.html](explore.html)."]
    figures = {}
    current = runs.current()
    for picture in pictures(current, claims):
        name, content = f"figures/{picture.name}.png", io.BytesIO()
        save_figure(picture.figure, content, format="png")
        figures[name] = content.getvalue()
        parts.append(f"![{picture.caption}]({name})\n\n{picture.caption}")
    parts += ["## Tables", *map(table_markdown, [*paper_tables(current), *equilibrium_tables(current)])]
    parts += ["## Methods under one protocol", methods_markdown(runs), table7_markdown(runs)]
    parts += ["## Groups that share their inputs", sharing_markdown(runs)]
    parts += ["## Other architectures", architectures_markdown(runs)]
    grids = load_grids()
    parts += ["## Contradictions inside the paper", as_list(published.CONTRADICTIONS)]
    parts += ["## Deviations from the plan", _list_deviations(runs)]
    parts += ["## Hours by claim", cost_by_claim(runs, grids) if claims else "No claim is judged."]
    parts += ["## What was run, and what was not", count_planned(runs, grids)]
    return "\n\n".join(part.strip() for part in parts) + "\n", figures


def sections(runs: Runs, claims: Sequence[Claim]) -> dict[str, str]:
    """Make the sections that ``--into`` writes into other files; sections without runs are left out.

    Args:
        runs: Recorded runs.
        claims: Claims with their verdicts.

    Returns:
        Markdown by name of the section.
    """
    found, single = layers(runs), runs.of("equilibrium-variants")
    together = runs.of("equilibrium-combinations", "fashion")
    tables = {
        "table 4": settled_table(runs) if together else None,
        "table 4 unseen": unseen_table(runs) if runs.of("table4") else None,
        "choices": choices(single) if single else None,
        "choices together": choices(together) if together else None,
        "law": law_table(found) if found else None,
        "layers": layer_table(found) if found else None,
    }
    judged = [claim for claim in claims if claim.verdict is not Verdict.NOT_RUN]
    summary = f"{_describe_runs(runs, str(RECORD))} Claims: {tally(claims)}.\n\n{claims_table(judged)}"
    headlines = headline_table(load_plan(), claims) if claims else ""
    return {
        "claims": summary,
        "results": headlines,
        "methods": methods_markdown(runs),
        "table 7": table7_markdown(runs),
        "sharing": sharing_markdown(runs),
        "architectures": architectures_markdown(runs),
        **{name: untitled(table) for name, table in tables.items() if table},
    }


def _describe_runs(runs: Runs, source: str) -> str:
    """Describe number, dates, duration, machines and storages of the runs in a sentence."""
    dates = sorted(run.date[:10] for run in runs.all)
    hours = sum(run.seconds for run in runs.all) / 3600
    storages = ", ".join(sorted({run.storage for run in runs.all}))
    first, last = dates[0], dates[-1]
    when = first if first == last else f"{first} to {last}"
    where = f"on {_list_machines(runs.all)}, storage {storages}"
    return as_text(f"{len(runs)} runs from {source}, {when}, {hours:.1f} hours of runs (several at a time) {where}.")


def _compare_analyses(runs: Runs, claims: Sequence[Claim]) -> str:
    """Make the table of the verdicts under other estimators and another noise; a verdict that flips is bold."""
    others = {analysis.name: all_claims(runs, analysis) for analysis in ALTERNATIVES}
    rows = []
    for place, claim in enumerate(claims):
        if claim.verdict is Verdict.NOT_RUN:
            continue
        found = [str(judged[place].verdict) for judged in others.values()]
        rows.append([claim.title, claim.data, claim.verdict, *(v if v == claim.verdict else f"**{v}**" for v in found)])
    if not rows:
        return "Nothing is judged."
    return markdown_table(["the paper says", "data", f"{PLANNED.name}: the plan", *others], rows)


def _list_deviations(runs: Runs) -> str:
    """List what the runs under the plan have done otherwise than the plan as it is now."""
    planned = [run for run in runs.all if is_planned(run)]
    found = find_contradictions(planned)
    others = sorted({run.plan for run in planned} - {plan_digest()})
    found += [f"{sum(run.plan == digest for run in planned)} runs were made under plan {digest}" for digest in others]
    words = f"{len(planned)} runs were made under an analysis plan, {len(runs) - len(planned)} before there was one."
    return f"{words}\n\n{as_list(found)}".strip()


def _list_machines(runs: Iterable[RecordedRun]) -> str:
    return ", ".join(sorted({run.machine for run in runs}))


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
