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


@pytest.fixture
def planned(write):
    """The plan of a sweep, as the command makes it."""

    def make(sweep):
        parsed, _ = parse(["--config", write(sweep)])
        return plan_of(parsed, configuration(parsed))

    return make
