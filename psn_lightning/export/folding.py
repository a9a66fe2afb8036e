"""Dense copies of sparse networks for evaluation: what is exported."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from psn_lightning.nn.sparsify import densify
from psn_lightning.nn.torch_private import drop_compiled


class Forward(nn.Module):
    """The forward pass of a module, and nothing else of its class.

    Args:
        module: Module to call.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> object:
        """Output of the module."""
        return self.module(*inputs)


def fold(model: nn.Module) -> Forward:
    """Copy a model, with its masks folded into dense weights, for evaluation on the CPU.

    Args:
        model: Any module, sparse or dense; it stays as it is. The copy of a LightningModule has no Trainer.

    Returns:
        Copy in evaluation mode whose parameters need no gradient.
    """
    folded = Forward(copy.deepcopy(model)).cpu()
    densify(folded)
    drop_compiled(folded)
    return folded.eval().requires_grad_(False)
