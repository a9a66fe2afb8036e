"""The store: its address, its lock, and runs whose process is gone."""

import pytest

from psn_lightning.tracking.store import without_password


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("no address", "no address"),
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@host/db?password=secret", "postgresql://me@host/db?password=%2A%2A%2A"),
        ("postgresql://me:secret@host:port/db", "postgresql://…"),
    ],
)
def test_no_password_is_shown(url, text):
    assert without_password(url) == text
