"""Addresses of MLflow stores: checked, and shown without passwords."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from psn_lightning.errors import SettingError, in_one_line

DEFAULT_URI = "sqlite:///mlruns/mlflow.db"
URI_VARIABLE = "MLFLOW_TRACKING_URI"

LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
"""Environment variables of a server's user and password."""

SQLITE = "sqlite:///"
"""Prefix of a local store's address."""

_KINDS = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks", "databricks-uc")


def check_address(uri: str) -> None:
    """Refuse an address that MLflow cannot use.

    Raises:
        SettingError: If the address names a folder, no known kind of store, no host or file, or contains a login.
    """
    if uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks")):
        folder = uri.removeprefix("file:").removeprefix("//")
        raise SettingError(f"tracking.uri {uri!r}: MLflow 3 takes no folders; use {SQLITE}{folder}/mlflow.db")
    shown = f"tracking.uri {without_password(uri)!r}"
    if uri.split(":")[0].split("+")[0] not in _KINDS:
        raise SettingError(f"{shown} is none of {', '.join(_KINDS)}")
    if uri.startswith("databricks"):
        return
    try:
        place, url = urlsplit(uri), make_url(uri)
        port = place.port
    except (ArgumentError, ValueError) as error:
        raise SettingError(f"{shown} is not an address ({in_one_line(error)}): http://127.0.0.1:5000 is one") from error
    if uri.startswith("sqlite") and url.database in (None, "", ":memory:"):
        raise SettingError(f"{shown} names no file: {DEFAULT_URI} does")
    if uri.startswith("http") and (not place.hostname or re.search(r"\s", uri) or port == 0):
        raise SettingError(f"{shown} is not an address: http://127.0.0.1:5000 is one")
    if uri.startswith("http") and "@" in place.netloc:
        raise SettingError(f"{shown}: a server's user and password do not belong in its address, but in {LOGIN}")


def without_password(url: str) -> str:
    """Address of a store with its password replaced, to be printed or logged."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return f"{url.split('://')[0]}://…" if "@" in url or "password" in url else url
    if "password" in parsed.query:
        parsed = parsed.update_query_dict({"password": "***"})
    return parsed.render_as_string(hide_password=True)
