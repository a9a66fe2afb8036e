"""Optimal brain damage: the loss that removing a connection costs, to second order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from psn_lightning.pruning.saliency import Saliency, need
from psn_lightning.pruning.twin import Twin, differentiate, split_rows


@dataclass(frozen=True)
class OBD(Saliency):
    """Optimal brain damage, ½ h w², where h is the diagonal of the loss's Gauss-Newton matrix, exactly.

    Source: LeCun, Denker and Solla, 1990. In ReLU networks without norms h is the diagonal of the Hessian itself; it is
    never negative. Networks of linear layers need one backward pass for each class and batch, others one for each class
    and row. The rows of a batch must not depend on each other.
    """

    batches = 8

    def scores(self, twin: Twin, batches: Sequence[Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute ½ h w².

        Raises:
            SettingError: If no batch is given.
        """
        curvature = gauss_newton_diagonal(twin, need(batches, "OBD"))
        return twin.as_matrices(0.5 * curvature[name] * weight**2 for name, weight in twin.weights.items())


def gauss_newton_diagonal(twin: Twin, batches: Sequence[Any]) -> dict[str, Tensor]:
    """Compute the diagonal of the Gauss-Newton matrix of the mean cross-entropy.

    It is the mean over the rows of Σ_c p_c (∂ log p_c / ∂w)², with p_c the predicted probability of class c.

    Args:
        twin: Copy of the network.
        batches: Batches to average over.

    Returns:
        Diagonal by layer name, in the shape of the weights.
    """
    total = {name: torch.zeros_like(weight) for name, weight in twin.weights.items()}
    rows = 0
    plain = _are_products_exact(twin, next(split_rows(batches[0])))
    for batch in batches:
        products = _Products(twin)
        with products:
            logits, _ = twin.logits(batch)
        rows += len(logits)
        if plain and products.are_plain(len(logits)):
            _add_products(total, logits, products)
        else:
            for row in split_rows(batch):
                _add_row(total, twin.logits(row)[0], twin.weights.values())
    return {name: value / rows for name, value in total.items()}


def _are_products_exact(twin: Twin, row: Any) -> bool:
    """Compare both ways for one row: a weight may be used beside its layer, or rows of logits depend on each other."""
    by_row, by_product = ({name: torch.zeros_like(weight) for name, weight in twin.weights.items()} for _ in range(2))
    products = _Products(twin)
    with products:
        logits, _ = twin.logits(row)
    if not products.are_plain(len(logits)):
        return False
    _add_products(by_product, logits, products)
    _add_row(by_row, twin.logits(row)[0], twin.weights.values())
    return all(torch.allclose(by_product[name], value, rtol=1e-6, atol=0) for name, value in by_row.items())


def _add_row(total: dict[str, Tensor], logits: Tensor, weights: Iterable[Tensor]) -> None:
    """Add the terms of one row of data; it has several rows of logits if it is a sequence."""
    log_p, listed = logits.log_softmax(dim=1), list(weights)
    for place in range(log_p.shape[0]):
        for c in range(log_p.shape[1]):
            gradients = differentiate(log_p[place, c], listed, retain_graph=True)
            for sum_, gradient in zip(total.values(), gradients, strict=True):
                sum_ += log_p[place, c].detach().exp() * gradient**2


def _add_products(total: dict[str, Tensor], logits: Tensor, products: _Products) -> None:
    """Add the terms of a batch: a weight's gradient in one row is the product of that row's output gradient and input.

    So their squares, weighted by p_c and summed over the rows, are one matrix product.
    """
    log_p = logits.log_softmax(dim=1)
    outputs = list(products.outputs.values())
    for c in range(log_p.shape[1]):
        gradients = differentiate(log_p[:, c].sum(), outputs, retain_graph=True)
        p = log_p[:, c].detach().exp()[:, None]
        for name, gradient in zip(products.outputs, gradients, strict=True):
            total[name] += (p * gradient**2).T @ products.inputs[name] ** 2


class _Products:
    """Inputs and outputs of the linear layers of a twin in one forward pass, as a context."""

    def __init__(self, twin: Twin) -> None:
        names = {id(weight): name for name, weight in twin.weights.items()}
        self._owners = [
            (names[id(module.weight)], module)
            for module in twin.module.modules()
            if isinstance(module, nn.Linear) and id(module.weight) in names
        ]
        self._n_weights, self._calls = len(names), 0
        self.inputs: dict[str, Tensor] = {}
        """Inputs by layer name, shape ``(rows, n_in)``."""
        self.outputs: dict[str, Tensor] = {}
        """Outputs by layer name, shape ``(rows, n_out)``."""

    def __enter__(self) -> None:
        self._hooks = [
            owner.register_forward_hook(lambda _, args, out, name=name: self._note(name, args[0], out))
            for name, owner in self._owners
        ]

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _note(self, name: str, x: Tensor, out: Tensor) -> None:
        self._calls += 1
        self.inputs[name], self.outputs[name] = x.detach(), out

    def are_plain(self, n_rows: int) -> bool:
        """Whether every weight was used once, with one vector for each row of logits."""
        plain = all(x.dim() == 2 and len(x) == n_rows for x in self.inputs.values())
        return plain and self._calls == len(self.outputs) == self._n_weights
