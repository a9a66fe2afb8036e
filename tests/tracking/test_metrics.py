"""Metrics are collected into batches, once per step, under names that MLflow allows."""

import warnings

import pytest

from psn_lightning.tracking import metrics
from psn_lightning.tracking.metrics import MetricBuffer, allowed_name


def take(buffer):
    with buffer.batch() as batch:
        return [(key, value, step) for key, value, _, step in batch]


def test_a_metric_has_one_value_per_step_and_steps_only_grow():
    buffer = MetricBuffer()
    for step, value in ((0, 1.0), (0, 2.0), (2, 3.0), (1, 4.0)):
        buffer.add({"a": value, "epoch": 0}, step)
    assert take(buffer) == [("a", 1.0, 0), ("a", 3.0, 2)]
    assert buffer.latest == {"a": 3.0}
    assert take(buffer) == []


def test_without_a_step_each_value_has_the_next_one():
    buffer = MetricBuffer()
    for step, value in ((None, 1.0), (None, 2.0), (7, 3.0), (None, 4.0)):
        buffer.add({"a": value}, step)
    assert take(buffer) == [("a", 1.0, 0), ("a", 2.0, 1), ("a", 3.0, 7), ("a", 4.0, 8)]


def test_a_batch_is_due_after_so_many_metrics(monkeypatch):
    monkeypatch.setattr(metrics, "_MAX_ENTRIES", 3)
    buffer = MetricBuffer()
    assert [buffer.add({"a": 0.0}, step) for step in range(3)] == [False, False, True]


def test_or_after_some_seconds(monkeypatch):
    monkeypatch.setattr(metrics, "_MAX_SECONDS", 0.0)
    assert MetricBuffer().add({"a": 0.0}, 0)


def test_a_batch_that_cannot_be_written_is_kept():
    buffer = MetricBuffer()
    buffer.add({"a": 1.0}, 0)
    with pytest.raises(OSError, match="full"), buffer.batch():
        raise OSError("full")
    assert take(buffer) == [("a", 1.0, 0)]


@pytest.mark.parametrize(("name", "allowed"), [("acc@5", "acc_5"), ("a//b/../c", "a/b/c"), ("x" * 300, "x" * 250)])
def test_a_name_that_mlflow_does_not_allow_is_changed_with_one_warning(name, allowed):
    allowed_name.cache_clear()
    with pytest.warns(UserWarning, match=f"logged as '{allowed}'"):
        assert allowed_name(name) == allowed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert allowed_name(name) == allowed
        assert allowed_name("plain/name") == "plain/name"
