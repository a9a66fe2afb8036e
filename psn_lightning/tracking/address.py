"""The address of an MLflow store: what it may be, and how it may be shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from psn_lightning.errors import SettingError, in_one_line

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
URI_VARIABLE = "MLFLOW_TRACKING_URI"

LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
"""Environment variables that a server's user and password are read from."""

SQLITE = "sqlite:///"
"""Begins the address of a local store."""

_KINDS = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks", "databricks-uc")


def check_address(uri: str) -> None:
    """Refuse an address that can be none.

    Raises:
        SettingError: If it is so.
    """
    if uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks")):
        folder = uri.removeprefix("file:").removeprefix("//")
        raise SettingError(f"tracking.uri {uri!r}: MLflow 3 takes no folders; use {SQLITE}{folder}/mlflow.db")
    if uri.split(":")[0].split("+")[0] not in _KINDS:
        raise SettingError(f"tracking.uri {without_password(uri)!r} is none of {', '.join(_KINDS)}")
    if uri.startswith("databricks"):
        return
    try:
        place, url = urlsplit(uri), make_url(uri)
        port = place.port
    except (ArgumentError, ValueError) as error:
        raise SettingError(
            f"tracking.uri {without_password(uri)!r} is no address ({in_one_line(error)}): http://127.0.0.1:5000 is one"
        ) from error
    if uri.startswith("sqlite") and url.database in (None, "", ":memory:"):
        raise SettingError(f"tracking.uri {uri!r} names no file: {DEFAULT_URI} does")
    if uri.startswith("http") and (not place.hostname or re.search(r"\s", uri) or port == 0):
        raise SettingError(f"tracking.uri {without_password(uri)!r} is no address: http://127.0.0.1:5000 is one")
    if uri.startswith("http") and "@" in place.netloc:
        raise SettingError(
            f"tracking.uri {without_password(uri)!r}: a server's user and password do not go into its address, but "
            f"into {LOGIN}"
        )


def without_password(url: str) -> str:
    """A store's address as it may be shown and logged."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return f"{url.split('://')[0]}://…" if "@" in url or "password" in url else url
    if "password" in parsed.query:
        parsed = parsed.update_query_dict({"password": "***"})
    return parsed.render_as_string(hide_password=True)
