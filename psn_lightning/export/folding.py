"""Dense copies of sparse networks for evaluation: what is exported."""

from __future__ import annotations

import copy

import psutil
from torch import Tensor, nn

from psn_lightning.errors import SettingError
from psn_lightning.nn.sparsify import densify
from psn_lightning.nn.torch_private import drop_compiled
from psn_lightning.nn.weights import sparse_layers

_COPIES = 3  # of dense weights at a time: the folded model, the file's content, the network that is read from it


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

    Raises:
        SettingError: If the memory is too small for the dense weights: the system would kill the process.
    """
    check_memory(model)
    folded = Forward(copy.deepcopy(model)).cpu()
    densify(folded)
    drop_compiled(folded)
    return folded.eval().requires_grad_(False)


def check_memory(model: nn.Module) -> None:
    """Check that the dense weights of a sparse model fit into the free memory.

    Args:
        model: Any module.

    Raises:
        SettingError: If they do not.
    """
    itemsize = next((p.element_size() for p in model.parameters() if p.is_floating_point()), 4)
    needed = _COPIES * itemsize * sum(layer.n_out * layer.n_in for layer in sparse_layers(model).values())
    free = psutil.virtual_memory().available
    if needed > free:
        raise SettingError(
            f"export computes with dense weights, which take {needed / 1e9:.1f} GB here; {free / 1e9:.1f} GB are free"
        )
