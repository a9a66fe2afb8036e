"""Settings of a lottery: what is refused, and what may change when it goes on."""

import pytest

from psn_lightning.errors import SettingError
from psn_lightning.sweeps.lottery.settings import Lottery, configuration, parse
from tests.conftest import CONF

QUICK = ["--config", str(CONF / "quickstart.yaml")]


def test_own_arguments_are_told_from_those_of_the_fits():
    lottery, others = parse(
        ["--name", "a", *QUICK, "--levels=3", "--model.sparsity", "0", "--control", "redraw", "shuffle", "--one-shot"]
    )
    assert lottery == Lottery("a", levels=3, one_shot=True, controls=("redraw", "shuffle"))
    assert others == [*QUICK, "--model.sparsity", "0"]
    assert (lottery.n_levels, lottery.levels_at_once, lottery.describe_share(1)) == (1, 3, "51.2%")


def test_the_defaults_of_the_command_line_are_those_of_the_class():
    assert parse(["--name", "a"])[0] == Lottery("a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--levels", "0"], "levels 0 must be from 1 to 99"),
        (["--levels", "100"], "levels 100 must be from 1 to 99"),
        (["--levels", "x"], "--levels: invalid int value: 'x'"),
        (["--share", "1"], "share 1.0 must be in"),
        (["--share", "nan"], "share nan must be in"),
        (["--rewind", "-1"], "rewind -1 must be at least 0"),
        (["--retries", "-1"], "retries -1 must be at least 0"),
        (["--scope", "neuron"], "--scope: invalid choice: 'neuron'"),
        (["--control", "redraw", "--rewind-to", "schedule"], "controls are of rewinding to weights"),
        (["--name", "../x"], "name '../x' of the lottery must be a word"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        parse(["--name", "a", *arguments])


def test_a_name_is_needed():
    with pytest.raises(SettingError, match="required: --name"):
        parse([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trainer.devices=2"], "trainer.devices 2: a fit of a lottery has one device"),
        (["--ckpt_path=last"], "ckpt_path: a lottery chooses the checkpoints"),
        (["--trainer.enable_checkpointing=false"], "a ticket is a checkpoint"),
        (["--shares=0.1"], "shares"),
        (["--model.hidden=[0]"], "hidden"),
    ],
)
def test_configurations_that_do_not_suit_are_refused_before_a_fit_starts(arguments, message, workdir):
    with pytest.raises(SettingError, match=message):
        configuration([*QUICK, *arguments])
    assert not list(workdir.glob("mlruns/*/*"))


def test_more_levels_and_controls_may_be_added_and_nothing_else(workdir):
    config = {"model": {"lr": 0.1}, "tracking": {"uri": None}, "trainer": {"max_epochs": 2}}
    digest = Lottery("a").digest(config)
    for other in (Lottery("a", levels=20), Lottery("a", controls=("redraw",), metric="x", retries=9)):
        assert other.digest({**config, "tracking": {"uri": "sqlite:///other.db"}}) == digest
    for other in (Lottery("a", share=0.3), Lottery("a", rewind=1), Lottery("a", scope="network"), Lottery("b")):
        assert other.digest(config) != digest
    assert Lottery("a").digest({**config, "trainer": {"max_epochs": 3}}) != digest
    shots = [Lottery("a", levels=n, one_shot=True).digest(config) for n in (3, 4)]
    assert shots[0] != shots[1]
