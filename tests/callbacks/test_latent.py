"""Top-KAST and STR in a Trainer: against loops that compute the weights by autograd, and beside other callbacks."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.tuner import Tuner
from torch.func import functional_call
from torch.nn import functional as F

from psn_lightning import sparse_layers, sparsify
from psn_lightning.callbacks import STR, MaskReapply, Prune, RigL, Sparsify, TopKAST, TopologyLogger, TrainingCost
from psn_lightning.data import Digits
from psn_lightning.errors import SettingError
from psn_lightning.pruning import SNIP
from psn_lightning.task import SparseClassifier
from tests.callbacks.test_dynamic import changes
from tests.callbacks.test_dynamic import trainer as digits_trainer
from tests.helpers.models import ACCELERATOR, SaveAt, TwoOptimizers, batches, plain, trainer

METHODS = {
    "topkast": lambda **arguments: TopKAST(0.8, 0.6, penalty=1e-2, period=3, **arguments),
    "str": lambda **arguments: STR(initial=-4.0, weight_decay=1e-2, **arguments),
}


def dense(**arguments):
    torch.manual_seed(0)
    return SparseClassifier(64, 10, **{"hidden": [48, 32], "sparsity": 0.0, **arguments})


class Watch(pl.Callback):
    """Masks, positions that train, and stray weights after every step and in evaluations."""

    def __init__(self):
        self.masks, self.trained, self.stray = [], [], 0.0

    def look(self, trainer, pl_module, *_):
        for layer in sparse_layers(pl_module).values():
            self.stray = max(self.stray, float(layer.parameter.detach().flatten(1)[~layer.mask].abs().sum()))

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.look(trainer, pl_module)
        layers = sparse_layers(pl_module).values()
        self.masks.append([layer.mask.clone() for layer in layers])
        self.trained.append([layer.trained.flatten(1).clone() for layer in layers])

    on_validation_batch_start = look
    on_before_backward = look


def momentum(module):
    return torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)


def top(theta, density):
    mask = torch.zeros(theta.numel(), dtype=torch.bool)
    mask[theta.detach().abs().flatten().argsort(descending=True, stable=True)[: round(density * theta.numel())]] = True
    return mask.view(theta.shape)


class Loop:
    """Plain loop over six batches an epoch, two for each step, with weights computed from latent ones by autograd."""

    def __init__(self, name, method):
        self.net, self.method = plain(name).net.double(), method
        every = dict(self.net.named_parameters())
        self.theta = {k: v for k, v in every.items() if v.dim() > 1}
        self.s = {k: torch.nn.Parameter(torch.tensor(-4.0, dtype=torch.float64)) for k in self.theta}
        own = self.s.values() if method == "str" else ()
        self.optimizer = torch.optim.SGD([*every.values(), *own], lr=0.1, momentum=0.9)
        self.active, self.backward = {}, {}

    def select(self, more):
        for k, theta in self.theta.items():
            old, self.active[k] = self.backward.get(k), top(theta, 0.2)
            self.backward[k] = top(theta, 0.2 + more)
            buffer = self.optimizer.state[theta].get("momentum_buffer")
            if buffer is not None:
                buffer[~(old & self.backward[k])] = 0

    def effective(self, k, theta):
        if self.method == "str":
            return theta.sign() * torch.relu(theta.abs() - torch.sigmoid(self.s[k]))
        return theta + (torch.where(self.active[k], theta, 0) - theta).detach()  # straight through

    def penalty(self):
        if self.method == "str":
            squares = (p.square().sum() for kind in (self.theta, self.s) for p in kind.values())
            return 1e-2 / 2 * sum(squares)
        norms = [
            t[self.active[k]].norm() + t[self.backward[k] & ~self.active[k]].norm() * t.numel() / self.active[k].sum()
            for k, t in self.theta.items()
            if self.backward[k].sum() > self.active[k].sum()
        ]
        norms += [t[a].norm() for k, t in self.theta.items() if torch.equal(a := self.active[k], self.backward[k])]
        return 1e-2 * sum(norms)

    def train(self, data, epochs, end):
        step = 0
        for _ in range(epochs):
            rows = list(data)
            for pair in zip(rows[::2], rows[1::2], strict=True):
                if self.method == "topkast" and (step == end or (step < end and step % 3 == 0)):
                    self.select(0.2 if step < end else 0.0)
                self.optimizer.zero_grad()
                for x, y in pair:
                    weights = {k: self.effective(k, t) for k, t in self.theta.items()}
                    (F.cross_entropy(functional_call(self.net, weights, x.double()), y) / 2).backward()
                self.penalty().backward()
                before = {k: t.detach().clone() for k, t in self.theta.items()}
                if self.method == "topkast":
                    for k, theta in self.theta.items():
                        theta.grad.masked_fill_(~self.backward[k], 0)
                self.optimizer.step()
                if self.method == "topkast":
                    with torch.no_grad():
                        for k, theta in self.theta.items():
                            theta.copy_(torch.where(self.backward[k], theta, before[k]))
                step += 1
        with torch.no_grad():
            for k, theta in self.theta.items():
                is_str = self.method == "str"
                theta.copy_(self.effective(k, theta) if is_str else torch.where(self.active[k], theta, 0))
        return self.net


@pytest.mark.skipif(ACCELERATOR != "cpu", reason="float64")
@pytest.mark.parametrize("name", ["resnet", "transformer"])
@pytest.mark.parametrize("method", METHODS)
def test_against_a_loop_that_computes_the_weights_by_autograd(name, method):
    expected = Loop(name, method).train(batches(name), 5, end=8).state_dict()
    arguments = {"end": 8} if method == "topkast" else {}
    module, watch = plain(name, optimizer=momentum), Watch()
    run = trainer(METHODS[method](**arguments), MaskReapply(), watch, max_epochs=5, accumulate_grad_batches=2,
                  precision="64-true", num_sanity_val_steps=0)  # fmt: skip
    run.fit(module, batches(name))
    found = module.net.state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-9, msg=key)
    for key, layer in sparse_layers(module.net).items():
        weight = expected[key if key in expected else f"{key}.weight"]
        assert torch.equal(layer.mask, (weight != 0).flatten(1))
    assert watch.stray == 0


def test_topkast_counts_are_exact_and_the_masks_change_when_they_should():
    task, watch = dense(), Watch()
    run = digits_trainer(TopKAST(0.9, 0.7, period=10, end=25), MaskReapply(), TopologyLogger(), watch)
    run.fit(task, Digits(batch_size=64))
    sizes = [64 * 48, 48 * 32]
    for step, (masks, trained) in enumerate(zip(watch.masks, watch.trained, strict=True)):
        assert [int(m.sum()) for m in masks] == [round(0.1 * n) for n in sizes]
        share = 0.3 if step < 25 else 0.1
        assert [int(t.sum()) for t in trained] == [round(share * n) for n in sizes]
        assert all((t | ~m).all() for m, t in zip(masks, trained, strict=True))
    assert changes(watch.masks) == [10, 20, 25]
    assert watch.stray == 0


@pytest.mark.parametrize("method", METHODS)
def test_what_is_left_is_an_ordinary_sparse_network(method, tmp_path):
    task, callback = dense(lr=0.01), METHODS[method]()
    run = digits_trainer(callback, MaskReapply(), TopologyLogger(), TrainingCost(), SaveAt(30, tmp_path), max_epochs=2,
                         max_steps=-1, limit_val_batches=1.0)  # fmt: skip
    run.fit(task, data := Digits(batch_size=64))
    absent = sum(int((~layer.mask).sum()) for layer in task.sparse_layers().values())
    assert float(run.callback_metrics["sparsity/realised"]) == pytest.approx(absent / (64 * 48 + 48 * 32))
    assert callback.latent == {}
    held = {id(p) for group in run.optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in task.parameters()}
    for layer in task.sparse_layers().values():
        assert layer.trained is None
        assert 0 < layer.n_connections < layer.n_out * layer.n_in
    (before,) = digits_trainer(limit_test_batches=1.0).test(task, data, verbose=False)
    assert before["test/accuracy"] == float(run.callback_metrics["test/accuracy"]) > 0.8
    # A checkpoint of the middle of the run holds the same kind of network, for those who know nothing of the method.
    saved = torch.load(tmp_path / "30.ckpt", weights_only=True)["state_dict"]
    other = dense()
    other.load_state_dict(saved)
    for key, layer in other.sparse_layers().items():
        assert torch.equal(layer.mask, saved[f"network.{key}.weight_mask"])
        assert not layer.parameter.detach()[~layer.mask].any()


def test_str_is_governed_by_its_decay_and_logs_its_thresholds():
    realised = []
    for decay in (0.0, 0.1):
        run = digits_trainer(STR(-5.0, decay), TopologyLogger(), max_epochs=3, max_steps=-1)
        run.fit(dense(lr=0.01), Digits(batch_size=64))
        assert {"str/threshold/fc1", "str/threshold/fc2"} <= {*run.callback_metrics}
        realised.append(float(run.callback_metrics["sparsity/realised"]))
    assert realised[0] < 0.5 < realised[1]


@pytest.mark.parametrize("method", METHODS)
def test_manual_optimization_with_two_optimizers(method):
    torch.manual_seed(0)
    task, watch = TwoOptimizers(64, 10, hidden=[48, 32], sparsity=0.0), Watch()
    callback = METHODS[method]()
    run = digits_trainer(callback, MaskReapply(), watch, max_steps=40)
    run.fit(task, Digits(batch_size=64))
    assert len(watch.masks) == 20
    for i in range(2):
        assert any(not torch.equal(a[i], b[i]) for a, b in zip(watch.masks, watch.masks[1:], strict=False))


@pytest.mark.parametrize("method", METHODS)
def test_a_frozen_layer_stays(method):
    task = dense()
    task.network.fc1.weight.requires_grad_(False)
    before = task.network.fc1.weight.clone()
    digits_trainer(METHODS[method](), MaskReapply(), max_steps=20).fit(task, Digits(batch_size=64))
    (first, _) = task.sparse_layers().values()
    weight = first.parameter[first.mask]
    expected = before[first.mask]
    if method == "str":
        expected = expected.sign() * (expected.abs() - torch.tensor(-4.0).sigmoid())
    assert torch.equal(weight, expected)


class Fail(pl.Callback):
    """Fails within an optimizer step."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == 7:
            raise RuntimeError("failed")


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_step_leaves_a_sparse_network(method):
    task, watch = dense(), Watch()
    with pytest.raises(RuntimeError, match="failed"):
        digits_trainer(METHODS[method](), Fail()).fit(task, Digits(batch_size=64))
    watch.look(None, task)
    assert watch.stray == 0
    assert all(layer.n_connections < layer.n_out * layer.n_in for layer in task.sparse_layers().values())


@pytest.mark.parametrize(
    ("method", "other"),
    [(TopKAST, RigL), (STR, RigL), (TopKAST, lambda: Prune(SNIP(), 0.9)), (STR, TopKAST), (TopKAST, STR)],
)
def test_another_method_beside_it_is_refused(method, other):
    callbacks = method(), other()
    with pytest.raises(SettingError, match="would change the same masks") as refused:
        digits_trainer(*callbacks).fit(dense(), Digits(batch_size=64))
    assert all(type(callback).__name__ in str(refused.value) for callback in callbacks)


@pytest.mark.parametrize("method", METHODS)
def test_csr_and_sparse_starts_are_refused(method):
    with pytest.raises(SettingError, match="storage csr does not have: use storage masked"):
        digits_trainer(METHODS[method](), accelerator="cpu").fit(dense(storage="csr"), Digits(batch_size=64))
    with pytest.raises(SettingError, match=r"starts from dense layers, but fc1 has \d+ of 3072 connections"):
        digits_trainer(METHODS[method]()).fit(dense(sparsity=0.5), Digits(batch_size=64))
    run = trainer(METHODS[method](), Sparsify(0.5, print_table=False), max_epochs=1)
    with pytest.raises(SettingError, match="starts from dense layers"):
        run.fit(plain("resnet"), batches("resnet"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopKAST(sparsity=1.0), "sparsity"),
        (lambda: TopKAST(0.9, 0.95), "backward_sparsity 0.95"),
        (lambda: TopKAST(0.9, -0.1), "backward_sparsity -0.1"),
        (lambda: TopKAST(penalty=-1.0), "penalty"),
        (lambda: TopKAST(penalty=float("nan")), "penalty"),
        (lambda: TopKAST(period=0), "period"),
        (lambda: TopKAST(end=1.5), "end"),
        (lambda: STR(initial=float("-inf")), "initial"),
        (lambda: STR(weight_decay=-1.0), "weight_decay"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(SettingError, match=message):
        make()


@pytest.mark.parametrize("method", METHODS)
def test_an_optimizer_that_takes_several_gradients_in_a_step_is_refused(method):
    task = dense()
    task.configure_optimizers = lambda: torch.optim.LBFGS(task.parameters())
    with pytest.raises(SettingError, match="LBFGS takes several gradients"):
        digits_trainer(METHODS[method]()).fit(task, Digits(batch_size=64))


@pytest.mark.parametrize("method", METHODS)
def test_only_the_named_layers(method):
    module = plain("transformer")
    run = trainer(METHODS[method](layers=["net.encoder.*.linear1"]), MaskReapply(), max_epochs=1)
    run.fit(module, batches("transformer"))
    sparse = {name for name, layer in sparse_layers(module).items() if not layer.full}
    assert sparse == {f"net.encoder.layers.{i}.linear1" for i in range(2)}


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_of_other_layers_is_refused(method, tmp_path):
    first = digits_trainer(METHODS[method](layers=["fc1"]), SaveAt(3, tmp_path), max_steps=4)
    first.fit(dense(), data := Digits(batch_size=64))
    with pytest.raises(SettingError, match="latent weights of fc1, not of fc2: resume with"):
        digits_trainer(METHODS[method](layers=["fc2"])).fit(dense(), data, ckpt_path=tmp_path / "3.ckpt")


@pytest.mark.skipif(ACCELERATOR != "cpu", reason="storage of the CPU")
@pytest.mark.parametrize("method", METHODS)
def test_with_clipping_and_bfloat16(method):
    task, watch = dense(), Watch()
    run = digits_trainer(METHODS[method](), MaskReapply(), watch, precision="bf16-mixed", gradient_clip_val=0.1)
    run.fit(task, Digits(batch_size=64))
    assert watch.stray == 0
    assert len(watch.masks) == 40


def test_a_layer_that_is_made_sparse_by_hand_stays_dense_at_zero():
    module = plain("resnet")
    sparsify(module, 0.0, allocation="uniform", exclude=["net.fc"])
    trainer(METHODS["topkast"](), max_epochs=1).fit(module, batches("resnet"))
    assert "net.fc" not in sparse_layers(module)
    assert all(not layer.full for layer in sparse_layers(module).values())


@pytest.mark.skipif(ACCELERATOR != "cpu", reason="a scaler of the CPU")
@pytest.mark.parametrize("method", METHODS)
def test_a_step_that_the_scaler_skips_leaves_everything_as_it_was(method):
    class Never(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            for latent, theta in zip(callback.latent.values(), self.first, strict=True):
                assert torch.equal(latent.latent, theta)

        def on_train_start(self, trainer, pl_module):
            self.first = [latent.latent.clone() for latent in callback.latent.values()]

    callback, watch = METHODS[method](), Watch()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)  # overflows until it has been lowered
    run = trainer(callback, MaskReapply(), watch, Never(), max_steps=4,
                  plugins=[MixedPrecision("16-mixed", "cpu", scaler)])  # fmt: skip
    run.fit(plain("transformer"), batches("transformer"))
    assert scaler.get_scale() < 2.0**126
    assert watch.stray == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_from_before_the_fit_starts_it(method, tmp_path):
    """Lightning's tuner saves one, trains a little, and restores it."""
    task, callback, data = dense(lr=0.01), METHODS[method](), Digits(batch_size=64)
    run = digits_trainer(callback, max_epochs=2, max_steps=-1)
    Tuner(run).lr_find(task, data, num_training=5, update_attr=False)
    run.fit(task, data)
    assert all(layer.n_connections < layer.n_out * layer.n_in for layer in task.sparse_layers().values())


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_from_after_the_fit_ends_the_method_with_a_warning(method, tmp_path):
    task, data = dense(lr=0.01), Digits(batch_size=64)
    run = digits_trainer(METHODS[method](), max_epochs=1, max_steps=-1)
    run.fit(task, data)
    run.save_checkpoint(tmp_path / "after.ckpt")
    masks = [layer.mask.clone() for layer in task.sparse_layers().values()]
    other = dense(lr=0.01)
    with pytest.warns(UserWarning, match="from after a fit"):
        digits_trainer(METHODS[method](), max_epochs=2, max_steps=-1).fit(
            other, data, ckpt_path=tmp_path / "after.ckpt"
        )
    for layer, mask in zip(other.sparse_layers().values(), masks, strict=True):
        assert torch.equal(layer.mask, mask)
