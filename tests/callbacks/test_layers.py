"""Layers by name and pattern, the seed of a run, and metrics sent to every logger."""

from types import SimpleNamespace

import pytest

from psn_lightning import sparsify
from psn_lightning.callbacks.layers import layers_of, log_now, seed_of_run, select_layers
from psn_lightning.errors import SettingError
from tests.helpers.models import plain


@pytest.fixture
def module():
    module = plain("transformer")
    sparsify(module, 0.5, include=["*.linear1", "*.head"])
    return module


def test_names_are_qualified_unless_the_module_gives_its_own(module):
    assert list(layers_of(module)) == ["net.encoder.layers.0.linear1", "net.encoder.layers.1.linear1", "net.head"]
    own = {"first": layers_of(module)["net.head"]}
    module.sparse_layers = lambda: own
    assert layers_of(module) == own
    module.sparse_layers = lambda argument: own
    assert list(layers_of(module))[-1] == "net.head"


def test_patterns_select_layers(module):
    assert select_layers(module, None) == layers_of(module)
    assert list(select_layers(module, ["*.head", "*.0.*"])) == ["net.encoder.layers.0.linear1", "net.head"]
    with pytest.raises(SettingError, match=r"layers .*'fc\*'"):
        select_layers(module, ["fc*"])
    with pytest.raises(SettingError, match="Plain"):
        select_layers(plain("transformer"), None)


def test_the_seed_is_the_arguments_or_that_of_seed_everything_or_42(monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    assert (seed_of_run(None), seed_of_run(7)) == (42, 7)
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    assert (seed_of_run(None), seed_of_run(7), seed_of_run(0)) == (5, 7, 0)


def test_metrics_are_sent_to_every_logger():
    received = []
    logger = SimpleNamespace(log_metrics=lambda metrics, step: received.append((metrics, step)))
    log_now(SimpleNamespace(loggers=[logger, logger]), {"a": 1.0}, step=3)
    assert received == [({"a": 1.0}, 3)] * 2
