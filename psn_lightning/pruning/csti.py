"""CSTI: connections between correlated inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from psn_lightning.pruning.saliency import Saliency, need
from psn_lightning.pruning.twin import Twin, move_batch, split_pair


@dataclass(frozen=True)
class CSTI(Saliency):
    """Correlated sparse topological initialisation: correlations of the input features, tiled over the layers.

    Source: Zhang et al., 2024 (Cannistraci-Hebb training); magnitudes of Pearson's r. A neuron stands for the feature
    of its number, modulo the number of features, in every layer; constant features correlate with nothing, so that
    neurons may lose all inputs.
    """

    batches = None
    scope = "layer"

    def scores(self, twin: Twin, batches: Sequence[Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the correlations.

        Raises:
            SettingError: If no batch is given, or a batch is not a pair of features and labels.
        """
        features = torch.cat([move_batch(split_pair(batch)[0]).flatten(1) for batch in need(batches, "CSTI")])
        correlation = torch.corrcoef(features.T).nan_to_num(0).abs().fill_diagonal_(0)
        n = len(correlation)
        return {
            name: correlation[torch.arange(mask.shape[0])[:, None] % n, torch.arange(mask.shape[1])[None] % n]
            for name, mask in twin.masks.items()
        }
