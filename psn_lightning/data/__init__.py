"""DataModules of the paper's four data sets, and of the digits that need no download.

``__init__.pyi`` lists the public names. They are imported on first use, so that
:mod:`~psn_lightning.data.catalogue` needs no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
