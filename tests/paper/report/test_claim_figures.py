import numpy as np

from psn_lightning.paper.report.claim_figures import effects_figure, noise_figure
from psn_lightning.paper.report.contrasts import Contrast
from psn_lightning.paper.report.runs import Runs
from psn_lightning.paper.report.verdicts import Claim, Effect, Verdict
from tests.paper.report.conftest import recorded

FOUND = Contrast(0.2, 0.05, 8, 5)


def test_effects_stand_in_the_order_of_the_claims_with_the_printed_ones():
    claims = [
        Claim("equal", "MNIST", Verdict.REPRODUCED, "", effect=Effect(FOUND, 0.05, margin=0.3)),
        Claim("no difference at all", "MNIST", Verdict.REPRODUCED, ""),
        Claim("better", "Fashion-MNIST", Verdict.REVERSED, "", effect=Effect(FOUND, 0.05, 0.0, 0.49, 0.1)),
    ]
    axis = effects_figure(claims).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["equal: MNIST", "better: Fashion-MNIST"]
    drawn = {(float(line.get_xdata()[0]), line.get_marker()) for line in axis.lines if len(line.get_xdata()) == 1}
    assert {(0.2, "s"), (0.49, "D")} <= drawn


def test_nothing_to_draw():
    assert effects_figure([Claim("x", "MNIST", Verdict.NOT_RUN, "")]) is None
    assert noise_figure(Runs([])) is None


def test_the_noise_of_the_last_epoch_is_seen():
    """Runs whose epochs jump, each by itself: the mean over the tail has half of the last epoch's noise."""
    rng, runs = np.random.default_rng(0), []
    for cell in "abcd":
        for seed in range(8):
            curve = list(90 + rng.normal(0, 0.4, 12))
            runs.append(recorded("static", "mnist", {"profile": cell}, seed, curve[-1], curve=curve))
    axis = noise_figure(Runs(runs)).axes[0]
    noise = {line.get_label(): float(line.get_xdata()[0]) for line in axis.lines}
    assert noise["last third"] < 0.75 * noise["last epoch"]
    assert noise["epoch to epoch, within a run"] > 0.3
