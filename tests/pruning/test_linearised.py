"""Linearised forward passes: attention in plain functions is torch's, and outputs are polynomials of the weights."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from psn_lightning.pruning import linearised
from psn_lightning.pruning.linearised import Linearised


@pytest.mark.parametrize("sizes", [{}, {"kdim": 3, "vdim": 5}])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_in_plain_functions_is_torchs(sizes, bias, monkeypatch):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, bias=bias, **sizes).double()
    q = torch.randn(4, 3, 8, dtype=torch.float64)
    k = torch.randn(6, 3, sizes.get("kdim", 8), dtype=torch.float64)
    v = torch.randn(6, 3, sizes.get("vdim", 8), dtype=torch.float64)
    seen, real = [], F.multi_head_attention_forward

    def both(*args, **kwargs):
        seen.append(linearised._attend(inspect.signature(real).bind(*args, **kwargs).arguments)[0])
        return real(*args, **kwargs)

    monkeypatch.setattr(F, "multi_head_attention_forward", both)
    expected, _ = module(q, k, v, need_weights=False)
    assert torch.allclose(seen[0], expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3), nn.Softmax(dim=-1)),
        lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)),
        lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
    ],
)
def test_outputs_scale_with_a_weight(make):
    """A factor on the last weight is a factor on what it adds: activations and norms do nothing."""
    torch.manual_seed(0)
    module = make().double()
    for parameter in module.parameters():
        parameter.data = parameter.data.abs() if parameter.dim() > 1 else torch.zeros_like(parameter)
    x = torch.rand(2, 5, 4, dtype=torch.float64) if isinstance(module, nn.TransformerEncoderLayer) else None
    x = torch.rand(2, 4, dtype=torch.float64) if x is None else x
    weight = [p for p in module.parameters() if p.dim() > 1][-1]
    with Linearised():
        values = []
        for factor in (0.0, 1.0, 3.0):
            original = weight.data.clone()
            weight.data *= factor
            values.append(module(x).sum())
            weight.data = original
    zero, one, three = values
    assert float(one - zero) > 0
    assert float(three - zero) == pytest.approx(3 * float(one - zero))
