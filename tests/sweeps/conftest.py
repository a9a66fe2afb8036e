import copy

import pytest
import yaml

from psn_lightning.sweeps.command import configuration, plan_of
from psn_lightning.sweeps.sweep import parse


@pytest.fixture
def write(workdir):
    """Write a sweep's configuration."""

    def to_file(sweep):
        path = workdir / "sweep.yaml"
        path.write_text(yaml.safe_dump(sweep))
        return str(path)

    return to_file


@pytest.fixture(scope="session")
def _configurations():
    """Complete configurations by the sweep's own: each takes half a second to resolve and check."""
    return {}


@pytest.fixture
def planned(write, _configurations):
    """The plan of a sweep, as the command makes it."""

    def make(sweep):
        parsed, _ = parse(["--config", write(sweep)])
        given = yaml.safe_dump(sweep)
        if given not in _configurations:
            _configurations[given] = configuration(parsed)
        return plan_of(parsed, copy.deepcopy(_configurations[given]))

    return make
