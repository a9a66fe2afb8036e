"""MLflow: the logger, and what a run leaves behind."""

from psn_lightning.tracking.logger import Tracking
from psn_lightning.tracking.record import ConfigRecord, RunRecord
from psn_lightning.tracking.store import DEFAULT_URI

__all__ = ["DEFAULT_URI", "ConfigRecord", "RunRecord", "Tracking"]
