"""Slow reference implementation of dynamic sparse training: dense matrices, sorted lists, no torch.optim."""

import torch
import torch.nn.functional as F

from psn_lightning.dynamics import MagnitudePruningRule, SETRule, SRigLRule
from tests.dynamics.test_rules import srigl_oracle


class SlowNetwork:
    """Network of W ⊙ M, LayerNorm and ReLU, trained by Adam (Kingma & Ba, 2015, Algorithm 1).

    Args:
        network: Network with the initial weights and masks.
        lr: Learning rate; the other settings are Adam's defaults.
    """

    def __init__(self, network, lr):
        self.lr, self.steps = lr, 0
        self.masks = {name: torch.from_numpy(c.mask()) for name, c in network.connectivities().items()}
        self.values = {name: p.detach().clone() for name, p in network.named_parameters()}
        for name, layer in network.sparse_layers().items():
            self.values[f"{name}.weight"] = torch.zeros(self.masks[name].shape, dtype=torch.float64)
            self.values[f"{name}.weight"][self.masks[name]] = layer.active_values()
        self.moments = {name: [torch.zeros_like(value) for _ in range(2)] for name, value in self.values.items()}

    def gradients(self, batches):
        """Compute the dense gradients of the cross entropy, summed over batches."""
        leaves = {name: value.clone().requires_grad_() for name, value in self.values.items()}
        for x, target in batches:
            for i in range(1, len(self.masks) + 1):
                x = F.linear(x, leaves[f"fc{i}.weight"], leaves[f"fc{i}.bias"])
                if f"norm{i}.weight" in leaves:
                    x = F.layer_norm(x, x.shape[1:], leaves[f"norm{i}.weight"], leaves[f"norm{i}.bias"])
                x = x.relu()
            F.cross_entropy(F.linear(x, leaves["output.weight"], leaves["output.bias"]), target).backward()
        return {name: leaf.grad for name, leaf in leaves.items()}

    def step(self, gradients, seen):
        """Make one step of Adam; ``seen`` masks the connections whose gradient is known, by layer."""
        self.steps += 1
        for name, value in self.values.items():
            layer, gradient = name.split(".")[0], gradients[name]
            if layer in self.masks and name.endswith("weight"):
                gradient = gradient * (self.masks[layer] & seen[layer])
            m, v = self.moments[name]
            m.copy_(0.9 * m + 0.1 * gradient)
            v.copy_(0.999 * v + 0.001 * gradient**2)
            unbiased = m / (1 - 0.9**self.steps), v / (1 - 0.999**self.steps)
            value -= self.lr * unbiased[0] / (unbiased[1].sqrt() + 1e-8)

    def connect(self, layer, positions):
        """Set the active connections of a layer; weights that were or become absent are set to 0."""
        mask = torch.zeros_like(self.masks[layer])
        mask.view(-1)[positions] = True
        for tensor in (self.values[f"{layer}.weight"], *self.moments[f"{layer}.weight"]):
            tensor *= mask & self.masks[layer]
        self.masks[layer] = mask


def best(scores, candidates, count):
    """Select the ``count`` candidates with the highest scores; ties go to the lower position."""
    return sorted(candidates, key=lambda i: (-scores[i], i))[:count]


def share_of_smallest(weights, fraction):
    """Count how many of the smallest magnitudes over all layers each layer has; ties by layer and position."""
    everything = [(abs(w), layer, i) for layer, ws in enumerate(weights.values()) for i, w in enumerate(ws)]
    smallest = sorted(everything)[: int(fraction * len(everything))]
    return {name: sum(layer == i for _, layer, _ in smallest) for i, name in enumerate(weights)}


def connections_after(rule, fraction, layer, weight, gradient, active, n_initial, n_lowest, random):
    """Compute the active positions of a layer after an update.

    Args:
        layer: Shape of the layer, ``(n_out, n_in)``.
        weight: List of weights by position.
        gradient: List of gradients by position.
        active: Active positions before the update.
        n_initial: Number of connections at the start of the run.
        n_lowest: Number of this layer's connections among the smallest magnitudes of all layers.
        random: List of random numbers by position.
    """
    n_out, n_in = layer
    magnitude, everywhere = [abs(w) for w in weight], range(n_out * n_in)
    if isinstance(rule, MagnitudePruningRule):
        final = round((1 - rule.final_sparsity) * n_out * n_in)
        return sorted(best(magnitude, active, round(final + (n_initial - final) * fraction)))
    if isinstance(rule, SRigLRule):
        gradient = [abs(g) for g in gradient]
        return srigl_oracle(weight, gradient, active, n_out, n_in, fraction, rule.gamma_sal, n_initial)
    n, candidates = int(fraction * len(active)), set(everywhere)
    if isinstance(rule, SETRule):
        salience = dict.fromkeys(active)
        for own in ([i for i in active if weight[i] >= 0], [i for i in active if weight[i] < 0]):
            own.sort(key=lambda i: (magnitude[i], i))
            salience |= {i: rank / len(own) for rank, i in enumerate(own, start=1)}
        promise = random
    else:
        salience, promise = magnitude, [abs(g) for g in gradient]
        if getattr(rule, "drop_scope", "layer") == "global":
            n = n_lowest
        if not getattr(rule, "sees_absent", True):
            promise = [0.0 for _ in everywhere]
        if not rule.may_return:
            n, candidates = min(n, len(everywhere) - len(active)), candidates - set(active)
    kept = best(salience, active, len(active) - n)
    return sorted([*kept, *best(promise, candidates - set(kept), n)])
