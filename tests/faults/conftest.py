"""Everything here is a fault test: the marker says so."""

import pytest

from tests.faults.running import Server


def pytest_collection_modifyitems(items):
    for item in items:
        if "faults" in item.nodeid.split("/"):
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture
def server(tmp_path):
    """An MLflow server that can be taken away and brought back."""
    with Server(tmp_path / "server") as running:
        yield running
