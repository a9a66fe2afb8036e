"""MLflow: the logger, and what a run leaves behind."""

from psn_lightning.tracking.address import DEFAULT_URI
from psn_lightning.tracking.logger import Tracking
from psn_lightning.tracking.record import ConfigRecord, RunRecord

__all__ = ["DEFAULT_URI", "ConfigRecord", "RunRecord", "Tracking"]
