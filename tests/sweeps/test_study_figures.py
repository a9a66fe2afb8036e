import matplotlib as mpl
import matplotlib.pyplot as plt
import optuna
import pytest

from psn_lightning.sweeps.study_figures import draw_against, draw_study
from psn_lightning.sweeps.sweep import Range


@pytest.fixture
def searched():
    """A study of one number, three seeds a trial."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(6):
        trial = study.ask()
        x = trial.suggest_float("model.topology.init_args.offset", -1, 1)
        values = [1 - x**2 + 0.1 * seed for seed in (-1, 0, 1)]
        for seed, value in enumerate(values):
            trial.set_user_attr(f"seed_{seed}", value)
        study.tell(trial, sum(values) / 3)
    return study


SPACE = {"model.topology.init_args.offset": Range(-1, 1)}


def test_the_figures_of_a_search(searched):
    figures = draw_study(searched, searched.trials, SPACE, "val/accuracy")
    assert set(figures) == {"history", "slice", "offset_against_objective"}  # one number has no importance
    assert all(figure.axes for figure in figures.values())


def test_two_numbers_have_an_importance(searched):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + 0.01 * trial.suggest_float("y", 0, 1), n_trials=8)
    assert "importance" in draw_study(study, study.trials, {"x": Range(0, 1), "y": Range(0, 1)}, "val/loss")


def test_nothing_is_left_behind(searched):
    style, mine = dict(mpl.rcParams), plt.figure()
    open_before = plt.get_fignums()
    draw_study(searched, searched.trials, SPACE, "val/accuracy")
    assert plt.get_fignums() == open_before
    assert dict(mpl.rcParams) == style
    plt.close(mine)


def test_error_bars_are_the_spread_over_seeds(searched):
    figure = draw_against(searched.trials, "model.topology.init_args.offset", "val/accuracy")
    (container,) = figure.axes[0].containers
    (bars,) = container.lines[2]
    for trial, segment in zip(searched.trials, bars.get_segments(), strict=True):
        x, y = trial.params["model.topology.init_args.offset"], trial.value
        assert segment[:, 0] == pytest.approx([x, x])
        assert segment[:, 1] == pytest.approx([y - 0.1, y + 0.1])
    assert figure.axes[0].get_xlabel() == "offset"
    assert figure.axes[0].get_ylabel() == "val/accuracy (mean and standard deviation of 3 seeds)"


def test_an_empty_study_has_no_figures():
    assert draw_study(optuna.create_study(), [], SPACE, "val/accuracy") == {}
