"""Masks under optimizers that mix weights: a step that is dense although the gradient is masked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from psn_lightning.nn import SparseLayer


def keep_masks(optimizer: Optimizer, layers: Iterable[SparseLayer]) -> None:
    """Apply the masks after every step of an optimizer that mixes weights; other optimizers need nothing.

    Args:
        optimizer: Optimizer; of torch's own, Muon mixes: it makes each step orthogonal.
        layers: Layers whose absent weights are to stay 0.
    """
    if not isinstance(optimizer, torch.optim.Muon):
        return
    own = list(layers)

    def apply_masks(*_: Any) -> None:
        for layer in own:
            layer.apply_mask()

    optimizer.register_step_post_hook(apply_masks)
