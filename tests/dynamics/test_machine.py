"""A network in its storages against a slow one, over any sequence of steps, updates, resumes and conversions."""

import io

import pytest
import torch
import torch.nn.functional as F
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from psn_lightning.checkpoints.moments import convert_moments
from psn_lightning.dynamics import (
    MagnitudePruningRule,
    RigLRule,
    SETRule,
    SRigLRule,
    Update,
    moments_of,
    update_network,
)
from psn_lightning.errors import SettingError
from psn_lightning.paper.variant_updater import RigLVariantRule
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Bernoulli, Uniform
from tests.dynamics.slow import SlowNetwork, connections_after, share_of_smallest

pytestmark = pytest.mark.filterwarnings("ignore:.*target sparsity")  # layers of so few connections miss it

LR = 0.05
seeds = st.integers(0, 2**32 - 1)
storages = st.sampled_from(["masked", "csr"])
batch_sizes = st.lists(st.integers(1, 6), min_size=1, max_size=2)
rules = st.one_of(
    st.just(RigLRule()),
    st.builds(RigLVariantRule, st.booleans(), st.booleans(), st.sampled_from(["layer", "global"])),
    st.just(SETRule()),
    st.sampled_from([0.0, 0.3, 0.6, 1.0]).map(SRigLRule),
    st.sampled_from([0.3, 0.6, 0.9, 0.99]).map(MagnitudePruningRule),
)
fractions = st.one_of(st.sampled_from([0.0, 0.2, 0.4, 0.7, 1.0]), st.floats(0, 1))
widths = st.sampled_from([[1, 1], [1, 7], [7, 1], [5, 6], [8, 7], [4, 7, 3], [6, 5, 6]])


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-8)


def dense(layer, tensor):
    """What is kept for the connections of a layer, as a matrix."""
    matrix = torch.zeros(layer.n_out, layer.n_in, dtype=torch.float64)
    matrix.view(-1)[layer.active_positions()] = layer.compress(tensor)
    return matrix


class Training(RuleBasedStateMachine):
    @initialize(
        widths=widths,
        sparsity=st.sampled_from([0.0, 0.3, 0.5, 0.7]),
        topology=st.sampled_from([Uniform(), Bernoulli()]),
        storage=storages,
        layer_norm=st.booleans(),
        seed=st.integers(0, 999),
    )
    def begin(self, widths, sparsity, topology, storage, layer_norm, seed):
        n_features, *hidden = widths
        sparsity = min(sparsity, 1 - 1 / min(widths[:-1]))
        self.arguments = {"hidden": hidden, "topology": topology, "sparsity": sparsity, "layer_norm": layer_norm}
        self.arguments |= {"n_features": n_features, "n_classes": 3}
        self.generator = torch.Generator().manual_seed(seed)
        self.make(storage, seed)
        self.slow = SlowNetwork(self.task.network, LR)
        self.initial = {name: int(mask.sum()) for name, mask in self.slow.masks.items()}

    def make(self, storage, seed):
        self.task = SparseClassifier(**self.arguments, storage=storage, seed=seed).double()
        self.optimizer = torch.optim.Adam(self.task.parameters(), lr=LR)

    def backward(self, sizes, seed, record):
        """Both networks; the slow one's gradients."""
        generator = torch.Generator().manual_seed(seed)
        batches = [
            (
                torch.randn(n, self.arguments["n_features"], generator=generator, dtype=torch.float64),
                torch.randint(3, (n,), generator=generator),
            )
            for n in sizes
        ]
        self.optimizer.zero_grad()
        for layer in self.layers.values():
            layer.record_dense_gradient = record
        for x, target in batches:
            F.cross_entropy(self.task(x), target).backward()
        return self.slow.gradients(batches)

    @property
    def layers(self):
        return self.task.network.sparse_layers()

    @rule(sizes=batch_sizes, seed=seeds)
    def train(self, sizes, seed):
        gradients = self.backward(sizes, seed, record=False)
        self.optimizer.step()
        self.slow.step(gradients, seen=self.slow.masks)

    @rule(updates=st.lists(st.tuples(rules, fractions, batch_sizes, seeds, st.booleans()), min_size=1, max_size=4))
    def update(self, updates):
        for arguments in updates:
            self.update_layers(*arguments)

    @rule(sizes=batch_sizes, seed=seeds)
    def prune_to_nothing(self, sizes, seed):
        self.update_layers(MagnitudePruningRule(0.999), 0.0, sizes, seed, skip=True)  # which the engine refuses

    def update_layers(self, method, fraction, sizes, seed, skip):
        gradients = self.backward(sizes, seed, method.needs_gradient)
        before = dict(self.slow.masks)
        expected = self.expect(method, fraction, gradients)
        counts = {name: int(mask.sum()) for name, mask in before.items()}
        arguments = method, Update(fraction), self.optimizer, self.generator, self.initial
        if not all(expected.values()):
            name = next(name for name, positions in expected.items() if not positions)
            with pytest.raises(SettingError, match=f"{name}: .* {counts[name]} connections"):
                update_network(self.layers, *arguments)
        else:
            changes = update_network(self.layers, *arguments)
            for name, positions in expected.items():
                stayed = int(before[name].flatten()[positions].sum())
                assert changes[name].dropped == counts[name] - stayed
                assert changes[name].grown == len(positions) - stayed
                self.slow.connect(name, positions)
        if skip:
            return
        for layer in self.layers.values():
            layer.mask_gradient()
        self.optimizer.step()
        everywhere = {name: torch.ones_like(mask) for name, mask in before.items()}
        self.slow.step(gradients, seen=everywhere if method.needs_gradient else before)

    def expect(self, method, fraction, gradients):
        """Positions after the update, by layer name; empty where the engine refuses."""
        lowest = share_of_smallest(
            {name: layer.active_values().tolist() for name, layer in self.layers.items()}, fraction
        )
        generator, expected = self.generator.clone_state(), {}
        for name, layer in self.layers.items():
            weight, gradient = dense(layer, layer.parameter.detach()), gradients[f"{name}.weight"]
            close(weight, self.slow.values[f"{name}.weight"])
            if method.needs_gradient:
                close(layer.dense_gradient(), gradient)
                gradient = layer.dense_gradient()  # scores are compared to the last bit
            active = self.slow.masks[name].flatten().nonzero().squeeze(1).tolist()
            random = torch.zeros(weight.shape, dtype=torch.float64)
            n_grown = int(fraction * len(active))
            n_free = weight.numel() - len(active) + n_grown
            if isinstance(method, SETRule) and 0 < n_grown < n_free:  # else no number is drawn
                random = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
            expected[name] = connections_after(
                method, fraction, weight.shape, weight.flatten().tolist(), gradient.flatten().tolist(), active,
                self.initial[name], lowest[name], random.flatten().tolist(),
            )  # fmt: skip
        return expected

    @rule(seed=seeds, density=st.floats(0, 1))
    def rewire_by_hand(self, seed, density):
        generator = torch.Generator().manual_seed(seed)
        for name, layer in self.layers.items():
            mask = torch.rand(self.slow.masks[name].shape, generator=generator) <= density
            mask.view(-1)[seed % mask.numel()] = True
            layer.set_mask(mask, moments_of(layer, self.optimizer))
            self.slow.connect(name, mask.flatten().nonzero().squeeze(1))

    @rule(storage=storages, seed=st.integers(0, 999))
    def resume_in_a_storage(self, storage, seed):
        checkpoint = {"state_dict": self.task.state_dict(), "optimizer_states": [self.optimizer.state_dict()]}
        file = io.BytesIO()
        torch.save(checkpoint | {"generator": self.generator.get_state()}, file)
        file.seek(0)
        self.make(storage, seed)
        checkpoint = torch.load(file, weights_only=True)
        convert_moments(checkpoint, self.task, [self.optimizer])
        self.task.load_state_dict(checkpoint["state_dict"])
        self.optimizer.load_state_dict(checkpoint["optimizer_states"][0])
        self.generator = torch.Generator()
        self.generator.set_state(checkpoint["generator"])

    @invariant()
    def connections_are_those_of_the_slow_network(self):
        for name, layer in self.layers.items():
            mask = self.slow.masks[name]
            assert torch.equal(layer.mask, mask)
            assert torch.equal(layer.fan_in, mask.sum(dim=1))
            assert torch.equal(layer.active_positions(), mask.flatten().nonzero().squeeze(1))
            assert torch.equal(torch.from_numpy(layer.connectivity.mask()), mask)
            assert mask.any()

    @invariant()
    def weights_and_moments_are_those_of_the_slow_network_and_0_where_no_connection_is(self):
        parameters = dict(self.task.network.named_parameters())
        for name, parameter in parameters.items():
            layer = self.layers.get(name.split(".")[0]) if name.endswith("weight") else None
            state = self.optimizer.state.get(parameter, {})
            assert int(state.get("step", 0)) == self.slow.steps
            tensors = [parameter.detach(), *(state[key] for key in ("exp_avg", "exp_avg_sq") if state)]
            for actual, expected in zip(tensors, [self.slow.values[name], *self.slow.moments[name]], strict=False):
                close(actual if layer is None else dense(layer, actual), expected)
                if layer is not None and actual.shape == layer.mask.shape:
                    assert not actual[~layer.mask].any()


Training.TestCase.settings = settings(max_examples=30, stateful_step_count=20)
TestTraining = Training.TestCase
