"""Dense copies of sparse networks, where there is room for them."""

from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from psn_lightning import sparsify
from psn_lightning.errors import SettingError
from psn_lightning.export.folding import fold


@pytest.mark.parametrize("storage", ["csr", "masked"])
def test_the_memory_must_take_the_dense_weights(storage, monkeypatch):
    model = nn.Sequential(nn.Linear(500, 500))
    sparsify(model, 0.9, storage=storage)
    x = torch.randn(3, 500)
    torch.testing.assert_close(fold(model)(x), model(x).detach())
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000_000))
    with pytest.raises(SettingError, match="GB"):
        fold(model)
    fold(nn.Sequential(nn.Linear(500, 500)))
