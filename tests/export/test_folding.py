"""Dense copies of sparse networks, where there is room for them."""

from types import SimpleNamespace

import lightning.pytorch as pl
import psutil
import pytest
import torch
from lightning.pytorch.utilities.compile import from_compiled
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


class Doubled(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 3)

    def forward(self, x):
        return 2 * self.net(x)


def test_a_compiled_lightning_module_is_computed_by_its_copy():
    model = Doubled()
    sparsify(model, 0.5)
    x = torch.randn(4, 6)
    expected = model(x).detach()
    folded = fold(from_compiled(torch.compile(model, backend="eager")))
    with torch.no_grad():
        model.net.weight.zero_()
    torch.testing.assert_close(folded(x), expected)
    torch._dynamo.reset()
