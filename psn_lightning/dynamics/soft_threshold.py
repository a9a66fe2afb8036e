"""STR: soft thresholds that are learned with the weights (Kusupati et al., 2020, arXiv 2002.03231)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from psn_lightning.dynamics.latent import LatentLayer
from psn_lightning.nn import MaskedLayer


class SoftThresholdLayer(LatentLayer):
    """Layer with the weights sign(θ) · relu(|θ| − sigmoid(s)) and one learnable s (section 3).

    The gradient of θ is that of the effective weights where |θ| > sigmoid(s), and 0 elsewhere; the gradient of s is
    −sigmoid′(s) times the sum of sign(θ) · gradient over these positions. Weight decay λ adds λθ and λs: it pulls a
    negative s, and with it the threshold, upwards, and the weights below it. The sparsity emerges from λ and has no
    target.

    Args:
        layer: Dense layer in storage masked.
        initial: First value of s.
        weight_decay: Weight decay λ of θ and s.
    """

    def __init__(self, layer: MaskedLayer, initial: float, weight_decay: float) -> None:
        super().__init__(layer)
        self.weight_decay = weight_decay
        precise = torch.promote_types(self.latent.dtype, torch.float32)  # steps of 0.001 are lost on a bfloat16 of −8
        self.s = nn.Parameter(torch.tensor(initial, dtype=precise, device=self.latent.device))
        """Logit of the threshold, a scalar in float32 or float64."""
        layer.trained = torch.ones_like(self.latent, dtype=torch.bool)

    @property
    def own_parameter(self) -> nn.Parameter:
        """The logit s."""
        return self.s

    @property
    def threshold(self) -> Tensor:
        """Present threshold sigmoid(s), a scalar, detached."""
        return self.s.detach().sigmoid()

    @torch.no_grad()
    def refresh(self, moments: Iterable[Tensor] = ()) -> None:
        """Compute mask and effective weights; no moment is touched."""
        magnitude, threshold = self.latent.abs(), self.threshold.to(self.latent.dtype)
        self.layer.assign(self.latent.sign() * (magnitude - threshold), magnitude > threshold)

    def _convert_gradient(self, gradient: Tensor) -> None:
        gradient.masked_fill_(~self.layer.mask.view(gradient.shape), 0)
        slope = self.threshold * (1 - self.threshold)
        self.s.grad = self.weight_decay * self.s.detach() - slope * (gradient * self.latent.sign()).sum(
            dtype=slope.dtype
        )
        gradient.add_(self.latent, alpha=self.weight_decay)

    def _take_step(self, stepped: Tensor) -> None:
        self.latent.copy_(stepped)
        self.refresh()

    def state_dict(self) -> dict[str, Tensor]:
        """Latent weights and s; copies on the CPU."""
        return super().state_dict() | {"s": self.s.detach().cpu().clone()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Restore the state of :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self.s.copy_(state_dict["s"])
