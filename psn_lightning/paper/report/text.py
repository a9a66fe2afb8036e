"""Text and figures of the report."""

from __future__ import annotations

import io
from collections.abc import Sequence

from psn_lightning.commands.markdown import markdown_table
from psn_lightning.figure_style import save_figure
from psn_lightning.paper.plan import find_contradictions, is_planned, load_plan, plan_digest, plan_file
from psn_lightning.paper.report import published
from psn_lightning.paper.report.architectures import architectures_markdown
from psn_lightning.paper.report.coverage import cost_by_claim, count_planned, load_grids
from psn_lightning.paper.report.equilibria import equilibrium_tables
from psn_lightning.paper.report.evidence import ALTERNATIVES, PLANNED
from psn_lightning.paper.report.figures import pictures
from psn_lightning.paper.report.judging import all_claims
from psn_lightning.paper.report.looks import select_deciding
from psn_lightning.paper.report.method_pages import methods_markdown, sharing_markdown, table7_markdown
from psn_lightning.paper.report.pages import checks_table, claims_table, table_markdown, tally
from psn_lightning.paper.report.paper_tables import paper_tables
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.sections import describe_runs
from psn_lightning.paper.report.summary import as_list, summary_page
from psn_lightning.paper.report.topology_claims import topology_claims
from psn_lightning.paper.report.undecided import undecided_table
from psn_lightning.paper.report.verdicts import Claim, Verdict

TITLE = "Profiled Sparse Networks: the paper and our runs"
"""Title of the report."""
_EXPLANATION = """\
The accuracy of a run is the mean of its test accuracies over the last third of its epochs, in per cent; last and
best epoch stand beside it. Differences are in points, from the additive model cell + seed with the noise pooled over
all cells of a table; intervals are Student's t, 95% in tables. *equal within* is the smallest margin that is shown.
Claims are judged by the analysis plan, conf/reproduce/plan.yaml: *by* says whether the runs were made under it (and in
which of its looks), or are older, which makes a verdict exploratory. *size* says whether the printed effect is one that
a replication could find.
"""


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
        f"# {TITLE}",
        f"{describe_runs(runs, source)} Claims: {tally(claims)}." if claims else f"{plan_file()} is not here.",
        summary_page(load_plan(), claims) if claims else "",
        "## Claims by data set",
        _EXPLANATION,
        claims_table(claims) if claims else "No claim is judged.",
        "## What is not decided, and why",
        undecided_table(claims) if claims else "No claim is judged.",
        "## Would another analysis say the same?",
        _compare_analyses(runs, claims),
        "## Consistency of the topologies",
        "Computed, not measured; they count as no claim: bell width, rate and forms were chosen so that they hold.",
        checks_table(topology_claims()),
    ]
    parts += ["## Figures", "All runs, to explore: [explore.html](explore.html)."]
    figures = {}
    current = select_deciding(runs)
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


def _compare_analyses(runs: Runs, claims: Sequence[Claim]) -> str:
    """Make the table of the verdicts under other estimators and another noise; a verdict that flips is bold."""
    others = {analysis.name: all_claims(runs, analysis) for analysis in ALTERNATIVES}
    rows = []
    for place, claim in enumerate(claims):
        if claim.verdict is Verdict.NOT_RUN or not claim.of_accuracy:
            continue
        found = [str(judged[place].verdict) for judged in others.values()]
        rows.append([claim.title, claim.data, claim.verdict, *(v if v == claim.verdict else f"**{v}**" for v in found)])
    if not rows:
        return "Nothing is judged."
    return markdown_table(["the paper says", "data", f"{PLANNED.name}: the plan", *others], rows)


_DEVIATIONS = (
    "The plan names Fashion-MNIST for the advantage as written; no run was made for it under the plan, so its row "
    "stays exploratory, in one family with the others.",
    "The plan does not say which advantage is too small to count. On Fashion-MNIST it is the difference for which the "
    "paper's study had a power of one third (Simonsohn, 2015), on the other data sets the margin of accuracy.",
)


def _list_deviations(runs: Runs) -> str:
    """List in what the judgement departs from the plan, and what the runs have done otherwise than it says now."""
    planned = [run for run in runs.all if is_planned(run)]
    found = [*_DEVIATIONS, *find_contradictions(planned)]
    others = sorted({run.plan for run in planned} - {plan_digest()})
    found += [f"{sum(run.plan == digest for run in planned)} runs were made under plan {digest}" for digest in others]
    words = f"{len(planned)} runs were made under an analysis plan, {len(runs) - len(planned)} before there was one."
    return f"{words}\n\n{as_list(found)}".strip()
