"""Sparse training of any PyTorch model: topologies, dynamic sparse training, and the laboratory around them.

What is exported here is listed in ``__init__.pyi``; it is imported on first use.
"""

from typing import Any

import lazy_loader

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """A public name, or the version of this package."""
    if name == "__version__":
        from importlib.metadata import version  # slow, and seldom asked for

        return version("psn_lightning")
    return _load(name)
