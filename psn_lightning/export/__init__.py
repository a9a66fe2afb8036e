"""Trained networks as files that need neither this package nor its settings."""

from psn_lightning.export.formats import FORMATS, FormatName
from psn_lightning.export.model import Exported, export_model
from psn_lightning.export.sparse_file import load_sparse

__all__ = ["FORMATS", "Exported", "FormatName", "export_model", "load_sparse"]
