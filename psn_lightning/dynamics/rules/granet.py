"""GraNet: prunes over all layers while it drops and grows within them."""

from __future__ import annotations

from collections.abc import Mapping

from psn_lightning.dynamics.rules.rigl import RigLRule
from psn_lightning.dynamics.rules.targets import check_starts_denser, count_largest, replace_down_to
from psn_lightning.dynamics.views import Connections, LayerState, Update
from psn_lightning.errors import SettingError
from psn_lightning.topology import check_sparsity


class GraNetRule(RigLRule):
    """GraNet: gradual pruning with zero-cost neuroregeneration (Liu et al., 2021, arXiv 2106.10404, section 3).

    Every update prunes the smallest |weight| of all layers together, down to the sparsity
    s_t = s_f + (s_i − s_f)(1 − p / until)³, where p is the progress; then it drops the smallest |weight| of each layer
    and grows as many connections where the |gradient| is largest, like RigL. s_i is the sparsity at the start. The
    largest |weight| of every layer stays, so that none is emptied. Numbers to drop are rounded down, as for the other
    rules; the authors' code rounds up.

    Args:
        final_sparsity: Sparsity of all layers together after pruning (s_f), in [0, 1).
        until: Share of the updates in which the network is pruned, from the first on, in (0, 1].

    Raises:
        SettingError: If an argument is out of range.
    """

    keeps_count = False
    ends_at_target = True

    def __init__(self, final_sparsity: float = 0.9, until: float = 0.5) -> None:
        check_sparsity(final_sparsity)
        if not 0 < until <= 1:
            raise SettingError(f"until {until} is not in (0, 1]: 0.5 prunes in the first half of the updates")
        self.final_sparsity = final_sparsity
        self.until = until
        self._remaining: dict[str, int] = {}

    def check(self, layers: Mapping[str, LayerState]) -> None:
        """Check that the network starts denser than it ends."""
        check_starts_denser(layers, self.final_sparsity)

    def prepare(self, layers: Mapping[str, Connections], update: Update) -> None:
        """Count the connections of each layer that remain after pruning over all layers."""
        initial = sum(connections.layer.n_initial for connections in layers.values())
        final = round((1 - self.final_sparsity) * sum(c.layer.n_positions for c in layers.values()))
        share = (1 - min(1.0, update.progress / self.until)) ** 3
        self._remaining = count_largest(layers, round(final + (initial - final) * share))

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to prune and to replace."""
        return replace_down_to(self._remaining[layer.name], layer, update.fraction)
