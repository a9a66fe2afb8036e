"""Linearised forward passes of any module, by changing torch's functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


def _attend(given: Mapping[str, Any]) -> tuple[Tensor, None]:
    """Compute ``F.multi_head_attention_forward`` in plain functions, without dropout and padding.

    torch hides the functions within it from a :class:`TorchFunctionMode`.
    """
    x = [given[name] for name in ("query", "key", "value")]
    if given.get("use_separate_proj_weight"):
        weights = [given[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = given["in_proj_weight"].chunk(3)
    bias = given["in_proj_bias"]
    biases = [None] * 3 if bias is None else bias.chunk(3)
    (n, batch, _), heads = x[0].shape, given["num_heads"]
    projected = [F.linear(*parts) for parts in zip(x, weights, biases, strict=True)]
    width = projected[0].shape[-1]
    q, k, v = (part.reshape(-1, batch * heads, width // heads).transpose(0, 1) for part in projected)
    mixed = F.scaled_dot_product_attention(q, k, v)
    out = F.linear(mixed.transpose(0, 1).reshape(n, batch, width), given["out_proj_weight"], given["out_proj_bias"])
    return out, None


_SIGNATURE = inspect.signature(F.multi_head_attention_forward)
_IDENTITIES = {
    *(F.relu, F.relu_, F.relu6, F.hardtanh, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus),
    *(F.hardswish, F.hardsigmoid, F.sigmoid, F.tanh, F.softmax, F.log_softmax, F.softmin, F.softsign, F.logsigmoid),
    *(torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.softmax, torch.log_softmax),
    *(Tensor.relu, Tensor.relu_, Tensor.sigmoid, Tensor.tanh, Tensor.softmax, Tensor.log_softmax),
    *(F.layer_norm, F.batch_norm, F.group_norm, F.instance_norm, F.rms_norm, F.local_response_norm),
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout),
}
"""Functions that return their input."""


class Linearised(TorchFunctionMode):
    """Mode in which activations and norms are the identity, and attention is (q kᵀ) v.

    The outputs of a network are then a polynomial of its weights, of degree 1 in each.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _IDENTITIES:
            return args[0] if args else given["input"]
        if func is F.scaled_dot_product_attention:
            q, k, v = (*args, *(given[name] for name in ("query", "key", "value") if name in given))[:3]
            return q @ k.transpose(-2, -1) @ v
        if func is F.multi_head_attention_forward:
            with self:
                return _attend(_SIGNATURE.bind(*args, **given).arguments)
        return func(*args, **given)
