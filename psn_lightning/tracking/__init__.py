"""MLflow: the logger, the store, and what is kept while a server is away. Knows nothing of networks."""

from psn_lightning.tracking.address import DEFAULT_URI
from psn_lightning.tracking.logger import MLflowLogger

__all__ = ["DEFAULT_URI", "MLflowLogger"]
