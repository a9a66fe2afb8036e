"""Names of MLflow models, and the settings that concern them."""

from __future__ import annotations

import re
from typing import Literal, get_args

from psn_lightning.errors import SettingError

ModelChoice = Literal["best", "last", "none"]
"""Weights of a fit that become an MLflow model."""

NO_MODEL: dict[str, str | None] = {"model": "none", "register": None, "alias": None}
"""Settings of a logger that logs no model."""

_ALIAS = re.compile(r"(?!v\d+$)(?!latest$)[\w-]+")  # MLflow keeps the others for versions


def check_model_names(model: str, register: str | None, alias: str | None) -> None:
    """Check the settings that concern models.

    Args:
        model: Weights that become a model.
        register: Name of the registered model; None for none.
        alias: Alias of its new version; None for none.

    Raises:
        SettingError: If a setting is not possible, or has no effect.
    """
    if model not in get_args(ModelChoice):
        raise SettingError(f"tracking.model {model!r} is not one of {', '.join(get_args(ModelChoice))}")
    if register is None:
        if alias is not None:
            raise SettingError(f"tracking.alias {alias!r} is of no effect without tracking.register: give a name there")
        return
    if model == "none":
        raise SettingError(f"tracking.register {register!r} has no model: set tracking.model to best or last")
    if model_name(register) != register:
        raise SettingError(f"tracking.register {register!r} must have letters, digits, blanks, '-' and '_' only")
    if alias is not None and not _ALIAS.fullmatch(alias):
        raise SettingError(
            f"tracking.alias {alias!r} must have letters, digits, '-' and '_' only, and be neither latest nor v1, v2, …"
        )


def model_name(run_name: str | None) -> str:
    """Name of the model of a run: that of the run, without what MLflow does not allow; ``model`` without one."""
    return re.sub(r"[^\w\- ]", "-", run_name or "") or "model"
