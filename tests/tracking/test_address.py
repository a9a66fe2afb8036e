"""Addresses: what is none is refused, and no password is shown. More refusals are in tests/helpers/bad_inputs.py."""

import pytest

from psn_lightning.tracking.address import check_address, without_password


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("no address", "no address"),
        ("http://127.0.0.1:abc", "http://127.0.0.1:abc"),
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@host/db?password=secret", "postgresql://me@host/db?password=%2A%2A%2A"),
        ("postgresql://me:secret@host:port/db", "postgresql://…"),
    ],
)
def test_no_password_is_shown(url, text):
    assert without_password(url) == text


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///mlruns/mlflow.db",
        "sqlite:////somewhere/else.db",
        "http://127.0.0.1:5000",
        "https://mlflow.example/below/a/path",
        "http://[::1]:5000",
        "postgresql+psycopg://psn@localhost/mlflow",
        "postgresql+psycopg:///mlflow",
        "databricks",
        "databricks://profile",
    ],
)
def test_what_mlflow_takes_is_taken(uri):
    check_address(uri)
