"""Mixtures of experts against slow, obvious computations."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from psn_lightning.dynamics import CosineSchedule, RigLRule, TopologyUpdater
from psn_lightning.errors import SettingError
from psn_lightning.nn import MixtureLayer, auxiliary_loss, mixture_layers, sparse_layers, sparsify
from psn_lightning.nn.moe import squared_cv


def make_layer(n_in=6, n_out=5, experts=4, active=2, hidden=3, dtype=torch.float64, **settings):
    """A layer whose gates are not 0."""
    layer = MixtureLayer(n_in, n_out, experts, active, hidden, **settings).to(dtype)
    for matrix in (layer.gate, layer.noise):
        if matrix is not None:
            nn.init.normal_(matrix)
    return layer


def gates_by_hand(h, active):
    """Softmax over the largest values of each row, one row at a time."""
    gates = torch.zeros_like(h)
    for row, values in enumerate(h.detach()):
        best = sorted(range(len(values)), key=lambda i: -values[i].item())[:active]
        gates[row, best] = values[best].softmax(dim=0)
    return gates


SIZES = st.tuples(*(st.integers(1, 6) for _ in range(3)))  # inputs, outputs, hidden neurons


@given(SIZES, st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))), st.integers(0, 9))
@settings(max_examples=40)
def test_it_is_the_sum_over_all_experts(sizes, numbers, rows):
    (n_in, n_out, hidden), (experts, active) = sizes, numbers
    layer = make_layer(n_in, n_out, experts, active, hidden).eval()
    x = torch.randn(rows, n_in, dtype=torch.float64)
    gates = gates_by_hand(x @ layer.gate, active)
    expected = sum((gates[:, i : i + 1] * expert(x) for i, expert in enumerate(layer.experts)), torch.zeros(n_out))
    torch.testing.assert_close(layer(x), expected.expand(rows, n_out), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer._mix_all(x, layer.route(x)), layer(x), rtol=0, atol=1e-12)


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))), st.integers(1, 12))
@settings(max_examples=30)
def test_every_row_has_its_experts_and_every_parameter_a_gradient(numbers, rows):
    experts, active = numbers
    layer = make_layer(experts=experts, active=active)
    routing = layer.route(torch.randn(rows, 6, dtype=torch.float64))
    assert all(len(set(row)) == active for row in routing.experts.tolist())
    assert routing.counts.tolist() == [int((routing.experts == i).sum()) for i in range(experts)]
    torch.testing.assert_close(routing.gates.sum(dim=1), torch.ones(rows, dtype=torch.float64))
    (layer(torch.randn(rows, 6, dtype=torch.float64)).sum() + auxiliary_loss(layer)).backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_all_experts_without_noise_are_a_softmax_mixture():
    layer = make_layer(active=4, noise=False)
    x = torch.randn(7, 6, dtype=torch.float64)
    outputs = torch.stack([expert(x) for expert in layer.experts])
    expected = torch.einsum("re,ero->ro", (x @ layer.gate).softmax(dim=1), outputs)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    assert layer.route(x).load.tolist() == [7.0] * 4


@pytest.mark.parametrize("active", [1, 2, 4])
def test_the_load_is_the_probability_of_being_chosen_again(active):
    """Monte Carlo: the noise of one expert is drawn anew, that of the others stays."""
    layer, draws = make_layer(experts=5, active=active), 100_000
    x = torch.randn(1, 6, dtype=torch.float64)
    torch.manual_seed(4)
    load = layer.route(x).load
    torch.manual_seed(4)
    scale = (F.softplus(x @ layer.noise) + 0.01).squeeze(0)
    clean = (x @ layer.gate).squeeze(0)
    noisy = clean + scale * torch.randn(1, 5, dtype=torch.float64).squeeze(0)
    for i in range(5):
        values = noisy.repeat(draws, 1)
        values[:, i] = clean[i] + scale[i] * torch.randn(draws, dtype=torch.float64)
        frequency = (values.topk(active).indices == i).any(dim=1).double().mean()
        probability = load[i].item()
        deviation = math.sqrt(probability * (1 - probability) / draws)
        assert abs(frequency - probability) <= 4 * deviation + 1e-9


def test_at_the_start_all_experts_are_alike():
    layer = MixtureLayer(6, 5, experts=4, active=2, hidden=3)
    assert not layer.gate.any()
    assert not layer.noise.any()
    x = torch.randn(20_000, 6)
    routing = layer.route(x)
    assert torch.all((routing.gates.sum(dim=1) - 1).abs() < 1e-6)
    share = routing.importance / len(x)  # 2 gates of 4, which sum to 1: one quarter
    assert torch.all((share - 0.25).abs() < 4 * 0.5 / math.sqrt(len(x)))
    assert squared_cv(routing.load) < 0.01
    assert squared_cv(torch.full((4,), 3.0)) == 0
    quiet = layer.eval().route(x)
    assert torch.equal(quiet.gates, torch.full((20_000, 2), 0.5))


def test_the_squared_coefficient_of_variation():
    values = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    assert squared_cv(values).item() == pytest.approx(((4 + 1 + 9) / 3) / 9, rel=1e-9)
    assert squared_cv(torch.zeros(3)) == 0


@pytest.mark.parametrize("name", ["gate", "noise"])
def test_gradients_by_finite_differences_with_the_same_noise(name):
    layer = make_layer(n_in=3, experts=4, active=2)
    x, target = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 5, dtype=torch.float64)
    matrix = getattr(layer, name)

    def loss():
        torch.manual_seed(6)
        return F.mse_loss(layer(x), target) + auxiliary_loss(layer)

    (analytic,) = torch.autograd.grad(loss(), matrix)
    step = 1e-6
    for position in range(matrix.numel()):
        with torch.no_grad():
            flat = matrix.view(-1)
            flat[position] += step
            above = loss()
            flat[position] -= 2 * step
            below = loss()
            flat[position] += step
        assert ((above - below) / (2 * step)).item() == pytest.approx(
            analytic.view(-1)[position].item(), rel=1e-5, abs=1e-8
        )
    assert analytic.abs().min() > 0


def test_the_losses_are_weighted():
    x = torch.randn(9, 6, dtype=torch.float64)
    layer = make_layer(importance=0.3, load=0.7)
    torch.manual_seed(1)
    routing = layer.route(x)
    torch.manual_seed(1)
    layer(x)
    expected = 0.3 * squared_cv(routing.importance) + 0.7 * squared_cv(routing.load)
    torch.testing.assert_close(auxiliary_loss(layer), expected)
    for weights in ({"importance": 0.0}, {"load": 0.0}):
        layer = make_layer(**{"importance": 0.3, "load": 0.7} | weights)
        layer(x)
        assert auxiliary_loss(layer) > 0


@pytest.mark.parametrize(("experts", "active"), [(10, 1), (10, 3), (20, 2)])
def test_a_pass_computes_its_share_of_the_operations(experts, active):
    x = torch.randn(64, 30)
    layer = MixtureLayer(30, 20, experts, active, hidden=8)
    with FlopCounterMode(display=False) as counter:
        layer.eval()(x)
    gates = 2 * 64 * 30 * experts
    every = 2 * 64 * experts * 8 * (30 + 20)
    assert counter.get_total_flops() - gates == every * active / experts


def test_the_size_of_the_experts():
    assert MixtureLayer(784, 1024, experts=16).hidden == 27
    layer = MixtureLayer(784, 1024, experts=20)
    assert layer.hidden == 22
    assert layer.count_connections() == 20 * 22 * (784 + 1024) <= 784 * 1024


def test_inputs_of_any_leading_shape():
    layer = make_layer().eval()
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    assert layer(x).shape == (2, 3, 4, 5)
    torch.testing.assert_close(layer(x)[1, 2], layer(x[1, 2]), rtol=0, atol=1e-12)
    assert layer(x.transpose(0, 2)).shape == (4, 3, 2, 5)
    assert layer(x[0, 0, 0]).shape == (5,)


@pytest.mark.parametrize(
    "arguments",
    [
        {"active": 0},
        {"active": 5},
        {"hidden": 0},
        {"experts": 40, "hidden": None},
        {"importance": -0.1},
        {"load": float("nan")},
    ],
)
def test_what_cannot_be_is_refused(arguments):
    with pytest.raises(SettingError, match=next(iter(arguments.keys() - {"experts"}))):
        make_layer(**arguments)


class Two(nn.Module):
    """Two mixtures and a dense layer."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = make_layer(), make_layer(5, 5), nn.Linear(5, 2).double()

    def forward(self, x):
        return self.head(self.second(self.first(x)))


def test_the_loss_of_a_module_is_that_of_the_last_pass():
    net, (a, b) = Two(), torch.randn(2, 9, 6, dtype=torch.float64)
    assert auxiliary_loss(net) == 0
    net(a)
    first = auxiliary_loss(net)
    assert first == net.first.balance_loss + net.second.balance_loss
    assert auxiliary_loss(net) == first  # asking changes nothing
    net(b)
    assert auxiliary_loss(net) != first
    net.eval()(a)
    assert auxiliary_loss(net) == 0  # never that of an earlier pass
    assert auxiliary_loss(nn.Linear(2, 2)) == 0
    assert auxiliary_loss(nn.ReLU()) == 0


def test_several_passes_and_accumulated_gradients():
    """Both add the loss after each pass."""
    one, two, parts = Two(), None, torch.randn(2, 9, 6, dtype=torch.float64)
    two = copy.deepcopy(one)
    torch.manual_seed(3)
    for part in parts:
        (one(part).square().mean() + auxiliary_loss(one)).backward()
    torch.manual_seed(3)
    total = 0
    for part in parts:
        total = total + two(part).square().mean() + auxiliary_loss(two)
    total.backward()
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_recomputed_activations_have_the_same_gradients():
    plain, x = Two(), torch.randn(9, 6, dtype=torch.float64)
    again = copy.deepcopy(plain)
    for net, run in ((plain, plain), (again, lambda x: checkpoint(again, x, use_reentrant=False))):
        for step in range(2):
            torch.manual_seed(step)
            output = run(x)
            (output.square().mean() + auxiliary_loss(net)).backward()
    for ours, theirs in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_it_can_be_copied_and_pickled_after_a_pass():
    layer, x = make_layer(), torch.randn(4, 6, dtype=torch.float64)
    layer(x)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert copied.balance_loss is None
        assert torch.equal(copied.row_counts, layer.row_counts)
        assert torch.equal(copied.eval()(x), layer.eval()(x))
        layer.train()


def test_noise_follows_torchs_generator_and_evaluation_has_none():
    layer, x = make_layer(), torch.randn(9, 6, dtype=torch.float64)
    torch.manual_seed(8)
    first, second = layer(x), layer(x)
    torch.manual_seed(8)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer(x), second)
    assert not torch.equal(first, second)
    before = torch.get_rng_state()
    assert torch.equal(layer.eval()(x), layer(x))
    assert torch.equal(torch.get_rng_state(), before)


def test_rows_are_counted_in_training_only():
    layer, x = make_layer(), torch.randn(9, 6, dtype=torch.float64)
    layer(x)
    layer(x)
    layer.eval()(x)
    assert layer.row_counts.sum() == 2 * 2 * 9
    assert "row_counts" not in layer.state_dict()


def test_gates_and_losses_are_float32_under_amp():
    layer, x = make_layer(dtype=torch.float32), torch.randn(9, 6)
    with torch.autocast("cpu", torch.bfloat16):
        routing, output = layer.route(x), layer(x)
        assert {routing.gates.dtype, routing.importance.dtype, routing.load.dtype} == {torch.float32}
        assert output.dtype == torch.bfloat16
        loss = output.float().square().mean() + auxiliary_loss(layer)
    assert auxiliary_loss(layer).dtype == torch.float32
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())
    halved = layer.bfloat16()
    assert halved(x.bfloat16()).dtype == torch.bfloat16
    assert auxiliary_loss(halved).dtype == torch.float32


def test_export_computes_all_experts_and_gives_the_same():
    layer, x = make_layer().eval(), torch.randn(3, 6, dtype=torch.float64)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("rows")},)).module()
    many = torch.randn(11, 6, dtype=torch.float64)
    torch.testing.assert_close(exported(many), layer(many), rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # dynamo's own
def test_compiled():
    layer, x = make_layer(), torch.randn(9, 6, dtype=torch.float64)
    compiled = torch.compile(copy.deepcopy(layer), backend="aot_eager")
    for net in (layer, compiled):
        torch.manual_seed(5)
        (net(x).square().mean() + auxiliary_loss(net)).backward()
    for ours, theirs in zip(layer.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_sparse_experts_under_rigl_where_some_have_no_rows(storage):
    """Three rows of two experts each leave 14 of 20 experts without rows; gates and other layers are dense."""
    net = nn.Sequential(MixtureLayer(32, 24, 20, 2, hidden=16), nn.ReLU(), nn.Linear(24, 3))
    assert not sparse_layers(net)
    sparsify(net, 0.8, exclude=["2"], storage=storage)
    layers = sparse_layers(net)
    assert list(layers) == [f"0.experts.{i}.{part}" for i in range(20) for part in ("hidden", "output")]
    counts = {name: layer.connectivity.n_connections for name, layer in layers.items()}
    assert mixture_layers(net)["0"].count_connections() == sum(counts.values()) == round(0.2 * 20 * 16 * (32 + 24))
    before = {name: layer.mask.clone() for name, layer in layers.items()}
    optimizer = torch.optim.Adam(net.parameters())
    updater = TopologyUpdater(layers, RigLRule(), CosineSchedule(0.3, 4, 0, 20), optimizer, 20)
    idle = 0
    for _ in range(20):
        loss = net(torch.randn(3, 32)).square().mean() + auxiliary_loss(net)
        loss.backward()
        idle += int((net[0].route(torch.randn(3, 32)).counts == 0).sum())
        updater.before_step()
        optimizer.step()
        optimizer.zero_grad()
    assert idle > 20 * 10
    assert {name: layer.connectivity.n_connections for name, layer in layers.items()} == counts
    assert all((layer.mask != before[name]).any() for name, layer in layers.items())
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())


def test_a_gate_can_be_made_sparse_by_name():
    net = nn.Sequential(MixtureLayer(32, 24, 20, 2, hidden=16))
    sparsify(net, 0.5, include=["*.gate"])
    assert list(sparse_layers(net)) == ["0.gate"]
