"""Claims that are not decided: each has its reason, and the command or the seeds that would decide it."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.paper.plan import load_plan
from psn_lightning.paper.report.contrasts import Contrast
from psn_lightning.paper.report.equilibrium_claims import equilibrium_claims
from psn_lightning.paper.report.evidence import Assessment
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.undecided import undecided_table
from psn_lightning.paper.report.verdicts import Claim, Effect, Verdict, correct_family, judge_all_above, judge_equality
from psn_lightning.paper.reproduction import cells_of, load
from tests.conftest import ROOT
from tests.paper.report.conftest import recorded


def open_claim(contrast=None, margin=0.0, alpha=0.05, **more):
    effect = None if contrast is None else Effect(contrast, alpha, margin)
    return Claim("x", "MNIST", Verdict.OPEN, "rms 2%", effect=effect, **more)


def cells(table):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_decided_claims_are_not_listed():
    decided = [Claim("x", "MNIST", verdict, "") for verdict in Verdict if verdict not in ("open", "not run")]
    assert len(decided) == 5
    assert "|" not in undecided_table(decided)
    assert len(cells(undecided_table([*decided, open_claim()]))) == 1


def test_runs_that_are_left_come_before_more_seeds():
    contrast = Contrast(0.1, 0.2, 8, 5)
    ((*_, decides),) = cells(undecided_table([open_claim(contrast, reproduction="starts --data emnist", left=7)]))
    assert decides == "`psn-train reproduce starts --data emnist`, 7 runs left"


def test_what_a_correction_took_is_said():
    shown = Claim("x", "MNIST", Verdict.REPRODUCED, "", p=0.02)
    first, _ = correct_family([shown, Claim("x", "b", Verdict.NOT_RUN, "")], 0.03)
    ((_, _, verdict, why, _),) = cells(undecided_table([first]))
    assert (verdict, why) == ("open", "shown alone, not after Holm's correction over 2 data sets")


@given(
    st.floats(-1, 1).filter(lambda x: abs(x) > 0.02),
    st.floats(0.05, 0.5),
    st.integers(3, 10),
    st.sampled_from([0.0, 0.3]),
)
def test_the_seeds_that_are_named_would_decide(difference, error, n, margin):
    """With that many, the same estimate and an error that shrinks with their root, the claim is not open."""
    contrast = Contrast(difference, error, 1000, n)

    def judge(found):
        return judge_equality({"x": found}, margin, 0.05) if margin else judge_all_above({"x": found}, 0.05)

    if judge(contrast) is not Verdict.OPEN:
        return
    ((*_, decides),) = cells(undecided_table([open_claim(contrast, margin)]))
    seeds = int(decides.split()[-2])
    assert seeds > n
    many = Contrast(difference, error * math.sqrt(n / (1.1 * seeds)), 10**6, seeds)
    assert seeds == 1000 or judge(many) is not Verdict.OPEN


def test_a_mean_that_the_paper_prints_too_roughly_is_never_decided():
    contrast = Contrast(-0.31, 0.13, 6, 8)
    rough = replace(open_claim(contrast, 0.3, left=7), effect=Effect(contrast, 0.05, 0.3, fixed_error=0.12))
    ((*_, decides),) = cells(undecided_table([rough]))
    assert decides.startswith("no run")
    fine = replace(rough, effect=Effect(contrast, 0.05, 0.3, fixed_error=0.001))
    ((*_, decides),) = cells(undecided_table([fine]))
    assert "7 runs left" in decides


@pytest.mark.parametrize("done", [0, 5])
def test_each_claim_of_a_record_knows_what_is_left(monkeypatch, done):
    monkeypatch.chdir(ROOT)
    every = list(cells_of(load("table4"), "mnist").values())
    runs = [recorded("table4", "mnist", cell, seed, 97.0, {"fan_in/ccv": 1.0}, plan="x") for cell, seed in every]
    claims = list(equilibrium_claims(Assessment(load_plan(), Runs(runs[:done]))))
    (mnist,) = [c for c in claims if c.reproduction == "table4 --data mnist"]
    (table4,) = [c for c in claims if c.reproduction == "table4"]
    assert mnist.left == len(every) - done
    others = sum(len(cells_of(load("table4"), data)) for data in ("fashion", "emnist", "forest"))
    assert table4.left == mnist.left + others
