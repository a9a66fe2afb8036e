"""Profiled Sparse Networks on PyTorch Lightning, tracked in MLflow."""

from importlib.metadata import version

__version__ = version("psn_lightning")
