"""Sections of results that the report writes into other files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psn_lightning.commands.markdown import as_text
from psn_lightning.paper.plan import load_plan
from psn_lightning.paper.record import RECORD
from psn_lightning.paper.recorded_run import RecordedRun
from psn_lightning.paper.report.architectures import architectures_markdown
from psn_lightning.paper.report.equilibria import settled_table, unseen_table
from psn_lightning.paper.report.law import law_table, layer_table
from psn_lightning.paper.report.looks import select_deciding
from psn_lightning.paper.report.method_pages import methods_markdown, sharing_markdown, table7_markdown
from psn_lightning.paper.report.pages import claims_table, tally, untitled
from psn_lightning.paper.report.paper_tables import choices
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.settled_layers import layers
from psn_lightning.paper.report.start_tables import starts_table
from psn_lightning.paper.report.summary import headline_table
from psn_lightning.paper.report.undecided import undecided_table
from psn_lightning.paper.report.verdicts import Claim, Verdict


def sections(runs: Runs, claims: Sequence[Claim]) -> dict[str, str]:
    """Make the sections that ``--into`` writes into other files; sections without runs are left out.

    Args:
        runs: Recorded runs.
        claims: Claims with their verdicts.

    Returns:
        Markdown by name of the section.
    """
    deciding = select_deciding(runs)
    found, single = layers(deciding), deciding.of("equilibrium-variants")
    together = deciding.of("equilibrium-combinations", "fashion")
    tables = {
        "table 4": settled_table(deciding) if together else None,
        "table 4 unseen": unseen_table(deciding) if deciding.of("table4") else None,
        "starts": starts_table(deciding.of("starts")) if deciding.of("starts") else None,
        "choices": choices(single) if single else None,
        "choices together": choices(together) if together else None,
        "law": law_table(found) if found else None,
        "layers": layer_table(found) if found else None,
    }
    judged = [claim for claim in claims if claim.verdict is not Verdict.NOT_RUN]
    summary = f"{describe_runs(runs, str(RECORD))} Claims: {tally(claims)}.\n\n{claims_table(judged)}"
    headlines = headline_table(load_plan(), claims) if claims else ""
    return {
        "claims": summary,
        "undecided": undecided_table(claims),
        "results": headlines,
        "methods": methods_markdown(runs),
        "table 7": table7_markdown(runs),
        "sharing": sharing_markdown(runs),
        "architectures": architectures_markdown(runs),
        **{name: untitled(table) for name, table in tables.items() if table},
    }


def describe_runs(runs: Runs, source: str) -> str:
    """Describe number, dates, duration, machines and storages of runs in a sentence.

    Args:
        runs: Recorded runs.
        source: Source of the runs, in words.
    """
    dates = sorted(run.date[:10] for run in runs.all)
    hours = sum(run.seconds for run in runs.all) / 3600
    storages = ", ".join(sorted({run.storage for run in runs.all}))
    first, last = dates[0], dates[-1]
    when = first if first == last else f"{first} to {last}"
    where = f"on {_list_machines(runs.all)}, storage {storages}"
    return as_text(f"{len(runs)} runs from {source}, {when}, {hours:.1f} hours of runs (several at a time) {where}.")


def _list_machines(runs: Iterable[RecordedRun]) -> str:
    return ", ".join(sorted({run.machine for run in runs}))
