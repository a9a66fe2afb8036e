"""Looks of the plan: which runs decide, at which level, and what older runs are good for."""

import pytest

from psn_lightning.paper.plan import load_plan
from psn_lightning.paper.report.contrasts import Contrast
from psn_lightning.paper.report.evidence import Assessment
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.verdicts import Claim, Effect, Verdict, judge_all_above
from psn_lightning.paper.reproduction import cells_of, load
from tests.conftest import ROOT
from tests.paper.report.conftest import recorded


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


FIVE = range(1001, 1006)


def planned(seeds, mean=90.0, plan="digest", data="emnist"):
    """Runs of every cell of the experiment `advantage`."""
    cells = {str(cell): cell for cell, _ in cells_of(load("advantage"), data).values()}
    return [recorded("advantage", data, cell, seed, mean, plan=plan) for cell in cells.values() for seed in seeds]


def decide(evidence):
    """A judge that sees the mean accuracy: above 91 it is sure, else not."""
    if not evidence.runs:
        return evidence.undecided("some")
    mean = sum(run.metrics["test/accuracy"] for run in evidence.runs.all) / len(evidence.runs)
    contrast = Contrast(1.0 if mean > 0.91 else 0.0, 0.1, 10, len(evidence.runs))
    verdict = judge_all_above({"x": contrast}, evidence.alpha)
    return Claim(
        "x", evidence.data, verdict, f"alpha {evidence.alpha}, {len(evidence.runs)} runs", basis=evidence.basis
    )


def judged(runs, older=None):
    return Assessment(load_plan(), Runs(runs)).judge("advantage", "emnist", older, decide, "advantage")


def test_the_first_look_waits_for_its_last_run():
    runs = planned(FIVE[:3], 92)
    claim = judged(runs)
    assert claim.verdict is Verdict.REPRODUCED
    assert claim.basis == "plan, look 1 of 2, 3 seeds"
    assert claim.ours == "alpha 0.0294, 6 runs"
    assert judged(runs[:-1]).verdict is Verdict.NOT_RUN


def test_what_the_first_look_decides_is_not_decided_again():
    runs = [*planned(FIVE[:3], 92), *planned(FIVE[3:], 10)]
    assert judged(runs).basis == "plan, look 1 of 2, 3 seeds"


def test_the_second_look_follows_an_open_first_one():
    claim = judged([*planned(FIVE[:3], 90), *planned(FIVE[3:], 99)])
    assert claim.basis == "plan, look 2 of 2, 5 seeds"
    assert claim.ours == "alpha 0.0294, 10 runs"


def test_three_seeds_are_looked_at_once():
    cells = [cell for cell, _ in cells_of(load("table4"), "mnist").values()]
    runs = [
        recorded("table4", "mnist", cell, seed, 92.0, plan="d") for cell in cells[::3] for seed in (1001, 1002, 1003)
    ]
    claim = Assessment(load_plan(), Runs(runs)).judge("equilibrium", "mnist", None, decide, "table4")
    assert claim.basis == "plan, look 1 of 1, 3 seeds"
    assert claim.ours.startswith("alpha 0.05")


def test_older_runs_explore_until_the_look_is_complete():
    older = [recorded("rigl-init", "emnist", {"start": start}, 42, 92.0) for start in ("erk", "equilibrium")]
    claim = judged([*older, *planned(FIVE[:2], 10)], "rigl-init")
    assert claim.basis.startswith("exploratory: rigl-init, 2 runs that are older than the plan; 4 runs under the plan")
    assert claim.verdict is Verdict.REPRODUCED
    assert judged([*older, *planned(FIVE[:3], 92)], "rigl-init").basis.startswith("plan")


def test_runs_without_a_plan_never_count_as_planned():
    claim = judged(planned(FIVE, 92, plan=""))
    assert claim.basis.startswith("exploratory: advantage")


@pytest.mark.parametrize(
    ("second", "verdict", "look"), [(0.003, Verdict.REPRODUCED, 2), (0.2, Verdict.OPEN, 2)], ids=["decided", "open"]
)
def test_what_the_correction_leaves_open_is_looked_at_again(second, verdict, look):
    """p = 0.016 decides alone at 0.0294, and not as one of three; the second look is recorded."""
    p = {3: 0.016, 5: second}

    def by_p(evidence):
        if not evidence.runs:
            return evidence.undecided("some")
        seeds = len({run.seed for run in evidence.runs.all})
        decided = Verdict.REPRODUCED if p[seeds] < evidence.alpha else Verdict.OPEN
        effect = Effect(Contrast(0.1, 0.1, 10, seeds), evidence.alpha)
        return Claim("x", evidence.data, decided, "", basis=evidence.basis, effect=effect, p=p[seeds])

    assessment = Assessment(load_plan(), Runs(planned(FIVE, 92)))
    found = assessment.judge_family("advantage", dict.fromkeys(("fashion", "emnist", "forest")), by_p, "advantage")
    assert [claim.verdict for claim in found] == [Verdict.NOT_RUN, verdict, Verdict.NOT_RUN]
    assert found[1].basis.startswith(f"plan, look {look} of 2")
    alone = assessment.judge("advantage", "emnist", None, by_p, "advantage")
    assert alone.basis.startswith("plan, look 1 of 2")


def equilibrium_runs(plans):
    """Runs of every cell of `equilibrium` on MNIST, whose seeds are those of older runs; plans by place."""
    cells = cells_of(load("equilibrium"), "mnist").values()
    return [recorded("equilibrium", "mnist", cell, seed, 97.0, plan=plans(i)) for i, (cell, seed) in enumerate(cells)]


def test_seeds_that_older_runs_have_are_explored_with_them():
    """They are not run again, so no look of the plan's runs alone is ever complete."""
    runs = equilibrium_runs(lambda i: "" if i < 4 else "digest")
    claim = Assessment(load_plan(), Runs(runs)).judge("equilibrium", "mnist", None, decide, "equilibrium")
    assert claim.basis == "exploratory: equilibrium, 24 runs, 4 of them older than the plan"
