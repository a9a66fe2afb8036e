"""SynFlow: the flow of a signal of ones through the magnitudes of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.torch_private import map_leaves
from psn_lightning.pruning.linearised import Linearised
from psn_lightning.pruning.saliency import Saliency
from psn_lightning.pruning.twin import Twin, differentiate, move_batch

_FIRST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding, nn.MultiheadAttention)  # modules that read inputs


@dataclass(frozen=True)
class SynFlow(Saliency):
    """Synaptic flow, |w| ∂R/∂|w|: the part of each connection in R, the sum of the outputs for an input of ones.

    Source: Tanaka et al., 2020, arXiv 2006.05467, section 6: the magnitudes of all weights, no biases, activations and
    norms as the identity, 100 rounds. Attention is (q kᵀ) v. No data are needed: of a batch only the shape is used,
    except for integers such as tokens, whose embeddings are the input.
    """

    rounds = 100
    batches = 1

    def scores(self, twin: Twin, batches: Sequence[Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute |w| ∂R/∂|w|.

        Raises:
            SettingError: If no signal reaches the outputs, or it overflows, or a batch is needed to know their shape.
        """
        weights = list(twin.weights.values())
        batch = batches[0] if batches else _make_batch(twin)
        with torch.no_grad():
            for name, parameter in twin.module.named_parameters():
                if parameter.dim() > 1:
                    parameter.abs_()
                else:
                    parameter.fill_(0 if "bias" in name else 1)  # a scale that multiplies the signal
        ones = map_leaves(_replace_by_ones, batch, Tensor)
        with Linearised():
            flow = twin.call(move_batch(ones))[0].sum()
        if not 0 < float(flow) < math.inf:
            raise SettingError(f"SynFlow's signal is {float(flow):g} at the outputs: some layer lets none pass")
        # R is very large or small in deep networks, and only the order of scores matters within a round.
        gradients = differentiate(flow.log(), weights)
        return twin.as_matrices(weight * gradient for weight, gradient in zip(weights, gradients, strict=True))


def _replace_by_ones(leaf: Tensor) -> Tensor:
    """Return the first row, as ones if it has floating-point numbers."""
    return torch.ones_like(leaf[:1]) if leaf.is_floating_point() else leaf[:1]


def _make_batch(twin: Twin) -> tuple[Tensor, Tensor]:
    """Make a batch for a network whose first layer is linear.

    Raises:
        SettingError: If it is not.
    """
    first = next((module for module in twin.module.modules() if isinstance(module, _FIRST)), None)
    if not isinstance(first, nn.Linear):
        raise SettingError(
            "SynFlow needs a batch for the shape of the inputs of this network: give prune(…, batches=[…])"
        )
    return torch.ones(1, first.in_features, dtype=torch.float64), torch.zeros(1, dtype=torch.int64)
