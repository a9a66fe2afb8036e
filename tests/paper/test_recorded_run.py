"""A recorded run: fields of another type or range are named; its key and its epochs."""

import dataclasses
import json
import math

import pytest

from psn_lightning.paper.recorded_run import RecordedRun
from tests.paper.report.conftest import recorded

RUN = recorded("static", "mnist", {"profile": "bell"}, 42, 98.0, curve=[97.0, 98.0])

WRONG = {
    "reproduction": [None, 1],
    "cell": [[], None, {"profile": ["bell"]}, {"profile": {}}],
    "seed": ["one", True, -1, 2**32, 1.0],
    "metrics": [[], {}, {"test/accuracy": "0.9"}, {"test/accuracy": math.nan}, {"test/accuracy": 0.9, "x": 10**400}],
    "curves": [None, {}, {"test/accuracy": []}, {"test/accuracy": 0.9}, {"test/accuracy": ["0.9"]}],
    "seconds": ["60", -1, math.nan, math.inf],
    "date": [20261124],
    "machine": ["\ud800"],
    "plan": [None],
    "evaluated": [None, ["1"], [1.0], [2.0, 1.0], [1.0, 1.0]],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_field_of_the_wrong_type_or_range_is_named(field, value):
    with pytest.raises(ValueError, match=rf"^({field} must be|'utf-8' codec)"):
        RecordedRun(**{**dataclasses.asdict(RUN), field: value})


def test_the_order_of_settings_in_a_cell_does_not_matter():
    one, other = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert dataclasses.replace(RUN, cell=one).key == dataclasses.replace(RUN, cell=other).key


def test_evaluations_are_after_every_epoch_or_where_the_run_says():
    assert RUN.accuracies == {1: 0.97, 2: 0.98}
    often = dataclasses.replace(RUN, curves={"test/accuracy": [0.9, 0.91, 0.92]}, evaluated=[1.0, 1.5, 2.0])
    assert often.accuracies == {1: 0.9, 1.5: 0.91, 2: 0.92}
    assert (RUN.epochs, often.epochs) == (2, 2)


def test_other_metrics_than_the_accuracy_may_be_infinite():
    run = dataclasses.replace(RUN, metrics={**RUN.metrics, "gradient/ratio": math.inf, "topology/dead_neurons/fc1": 0})
    assert RecordedRun(**json.loads(json.dumps(dataclasses.asdict(run)))) == run
