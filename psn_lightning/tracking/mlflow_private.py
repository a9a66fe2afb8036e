"""Private names of MLflow that this package uses; ``tests/tracking/test_mlflow_private.py`` tests each."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from mlflow.exceptions import MlflowException
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS as MLFLOW_MODEL_VERSIONS
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID as MLFLOW_PARENT_RUN_ID
from mlflow.utils.rest_utils import http_request
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH as MAX_ENTITY_KEY_LENGTH
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH as MAX_PARAM_VAL_LENGTH

from psn_lightning.tracking.causes import root_cause


def context_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags of a run, and those that MLflow finds out about the process: user, source, git commit."""
    return dict(resolve_tags(dict(tags)))


def ping(uri: str, seconds: float) -> None:
    """Request a server's health page once, within a time limit; any HTTP answer will do.

    Raises:
        OSError: If the server does not answer, or does not answer in HTTP.
    """
    try:
        http_request(get_default_host_creds(uri), "/health", "GET", max_retries=0, timeout=seconds).close()
    except MlflowException as error:
        raise OSError(str(root_cause(error))) from error


def silence_database_log() -> None:
    """Keep MLflow from logging tracebacks of database errors: messages of this package report them."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
