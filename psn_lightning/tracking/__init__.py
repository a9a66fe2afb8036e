"""MLflow: the logger, the store, and the outbox of runs on a server. Knows nothing of networks."""

from psn_lightning.tracking.address import DEFAULT_URI
from psn_lightning.tracking.logger import MLflowLogger

__all__ = ["DEFAULT_URI", "MLflowLogger"]
