"""Training loop without Lightning around a topology updater."""

import torch
import torch.nn.functional as F

from psn_lightning.dynamics import ACDCRule, CosineSchedule, RigLRule, TopologyUpdater
from psn_lightning.nn import SparseMLP
from psn_lightning.topology import Bernoulli, Topology


class Loop:
    """Small network with Adam and a topology updater; batch ``i`` is equal in all loops.

    Args:
        storage: Storage of the network's layers.
        rule: Rule that scores the connections; RigL by default. The network is 80% sparse, and dense for AC/DC.
        schedule: Schedule of the updates; every tenth step by default.
        make: Function that makes the updater from layers, rule, schedule and optimizer.
        topology: Topology of the layers; Bernoulli by default.
        **settings: Further arguments of the updater.
    """

    def __init__(self, storage="masked", rule=None, schedule=None, make=TopologyUpdater, topology=None, **settings):
        topology = Topology(topology or Bernoulli(), 0.0 if isinstance(rule, ACDCRule) else 0.8)
        self.network = SparseMLP([64, 48, 32, 10], topology, storage=storage, seed=3).double()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.01)
        schedule = schedule or CosineSchedule(0.3, 10, 10, 1000)
        self.layers = self.network.sparse_layers()
        self.updater = make(self.layers, rule or RigLRule(), schedule, self.optimizer, **settings)
        self.changes = {}

    def backward(self, step, part=slice(None)):
        """Add the gradients of one step's batch."""
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(20, 64, generator=generator, dtype=torch.float64)
        y = torch.randint(10, (20,), generator=generator)
        F.cross_entropy(self.network(x[part]), y[part]).backward()

    def step(self):
        """Train on the next batch."""
        step = self.updater.step
        self.optimizer.zero_grad()
        self.backward(step)
        changes = self.updater.before_step()
        if changes:
            self.changes[step] = changes
        self.optimizer.step()

    def train(self, steps):
        """Train on several batches."""
        for _ in range(steps):
            self.step()
        return self

    def masks(self):
        """Copies of the masks, by layer."""
        return {name: layer.mask.clone() for name, layer in self.layers.items()}

    def state_dict(self):
        """States of network, optimizer and updater."""
        parts = {"network": self.network, "optimizer": self.optimizer, "updater": self.updater}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state):
        """Restore the states of another loop."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updater.load_state_dict(state["updater"])
