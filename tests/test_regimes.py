"""Dynamic sparse training under what people train with: AMP, clipping, accumulation, compile, several optimizers, …"""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from psn_lightning import SET, MaskReapply, RigL, Sparsify, sparse_layers, sparsify
from psn_lightning.dynamics import CosineSchedule, RigLRule, TopologyUpdater, moments_of
from psn_lightning.errors import SettingError
from tests.helpers.models import Plain, TwoLayerTransformer, batches, plain, resnet, trainer


class Exact(pl.Callback):
    """After every step: as many connections as at first, and nothing where none is."""

    def __init__(self):
        self.positions = []

    def on_train_start(self, trainer, pl_module):
        self.counts = {name: layer.connectivity.n_connections for name, layer in sparse_layers(pl_module).items()}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        layers = sparse_layers(pl_module)
        self.positions.append({name: layer.active_positions() for name, layer in layers.items()})
        assert {name: layer.connectivity.n_connections for name, layer in layers.items()} == self.counts
        for layer in layers.values():
            optimizers = [o for o in trainer.optimizers if layer.parameter in o.state]
            moments = [moment for optimizer in optimizers for moment in moments_of(layer, optimizer)]
            for tensor in (layer.parameter.detach(), *moments):
                assert not tensor[~layer.mask.view(tensor.shape)].any()

    @property
    def updates(self):
        """Batches after which some layer was another."""
        pairs = enumerate(zip(self.positions, self.positions[1:], strict=False), start=1)
        return [i for i, (a, b) in pairs if any(not torch.equal(a[name], b[name]) for name in a)]


def train(module, *callbacks, sparsity=0.7, steps=6, loader=None, **arguments):
    exact = Exact()
    sparse = Sparsify(sparsity, print_table=False)
    run = trainer(sparse, *callbacks, exact, max_steps=steps, max_epochs=-1, **arguments)
    run.fit(module, loader or batches("transformer", 12))
    return exact, run


@pytest.mark.parametrize(
    "arguments",
    [
        {"precision": "bf16-mixed"},
        {"precision": "bf16-true"},
        {"precision": "64-true"},
        {"gradient_clip_val": 0.01},
        {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
        {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**8))]},
    ],
    ids=lambda a: next(iter(a.values())) if "plugins" not in a else "16-mixed",
)
def test_precisions_and_clipping(arguments):
    exact, _ = train(plain("transformer"), RigL(period=2, end=1.0), **arguments)
    assert exact.updates == [2, 4]


def test_an_update_waits_where_the_scaler_skips_its_step():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**80)  # overflows until it has been lowered
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    exact, _ = train(plain("transformer"), RigL(period=1, begin=2, end=3), plugins=[plugin], steps=4)
    assert exact.updates == []
    assert scaler.get_scale() < 2.0**80


def test_accumulated_micro_batches_are_one_large_batch():
    """Nothing in this model depends on the batch, so that the masks are the same."""
    one, two = plain("transformer").double(), plain("transformer").double()
    large, _ = train(one, RigL(period=2, end=1.0), steps=4, loader=batches("transformer", 8, 8), precision="64-true")
    small, _ = train(
        two, RigL(period=2, end=1.0), steps=4, loader=batches("transformer", 16, 4), precision="64-true",
        accumulate_grad_batches=2,
    )  # fmt: skip
    for name, positions in large.positions[-1].items():
        assert torch.equal(positions, small.positions[-1][name])


OPTIMIZERS = {
    "Adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.01),
    "SGD": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "RMSprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=0.01, momentum=0.5, centered=True),
    "Adafactor": lambda m: torch.optim.Adafactor(m.parameters(), lr=0.01),
    "NAdam": lambda m: torch.optim.NAdam(m.parameters(), lr=0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rule", [RigL, SET])
def test_optimizers(optimizer, rule):
    begin = {"begin": 0} if rule is SET else {}
    exact, run = train(plain("transformer", optimizer=OPTIMIZERS[optimizer]), rule(period=2, end=1.0, **begin))
    assert exact.updates == [2, 4]
    assert run.optimizers[0].state


def test_an_optimizer_that_mixes_weights_is_mended_by_the_mask():
    """Muon's steps are dense whatever its momentum is."""

    class Both(Plain):
        def configure_optimizers(self):
            return torch.optim.Muon([p for p in self.parameters() if p.dim() == 2], lr=0.01)

    exact, _ = train(Both(TwoLayerTransformer()), RigL(period=2, end=1.0), MaskReapply())
    assert exact.updates == [2, 4]


class Blocks(torch.optim.SGD):
    """Keeps a statistic of four weights at a time."""

    def step(self, closure=None):
        result = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["blocks"] = torch.zeros(p.numel() // 4 + 1)
        return result


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda m: torch.optim.LBFGS(m.parameters()), "LBFGS"),
        (lambda m: Blocks(m.parameters(), lr=0.1), r"Blocks .*blocks"),
    ],
)
def test_optimizers_whose_state_cannot_move_are_refused(optimizer, message):
    with pytest.raises(SettingError, match=message):
        train(plain("transformer", optimizer=optimizer), RigL(period=2, end=1.0))


class Adversaries(pl.LightningModule):
    """Two networks, two optimizers, stepped by hand; the second every other batch."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.first, self.second = TwoLayerTransformer(), TwoLayerTransformer()

    def configure_optimizers(self):
        return [torch.optim.Adam(net.parameters(), lr=0.01) for net in (self.first, self.second)]

    def training_step(self, batch, batch_idx):
        x, y = batch
        for i, (net, optimizer) in enumerate(zip((self.first, self.second), self.optimizers(), strict=True)):
            if i == 0 or batch_idx % 2 == 1:
                optimizer.zero_grad()
                self.manual_backward(F.cross_entropy(net(x), y))
                optimizer.step()


def test_two_optimizers_each_update_their_own_layers_by_their_own_steps():
    exact, sparse = Exact(), Sparsify(0.7, exclude=["*.head"], print_table=False)
    run = trainer(sparse, RigL(period=2, begin=2, end=6), exact, max_epochs=1)
    run.fit(Adversaries(), batches("transformer", 12))
    first = {name for name in exact.positions[0] if name.startswith("first.")}
    changed = [
        {name for name in a if not torch.equal(a[name], b[name])}
        for a, b in zip(exact.positions, exact.positions[1:], strict=False)
    ]
    assert [i for i, names in enumerate(changed, start=1) if names & first] == [2, 4]  # its own steps 2 and 4
    assert [i for i, names in enumerate(changed, start=1) if names - first] == [5, 9]  # which are later batches
    assert run.global_step == 18


def test_layers_that_are_unfrozen_later_join():
    class Tuned(Plain):
        def __init__(self):
            super().__init__(None)
            self.backbone, self.head = TwoLayerTransformer().encoder, nn.Linear(16, 3)

        def forward(self, x):
            return self.head(self.backbone(x).mean(dim=1))

        def configure_optimizers(self):
            return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=0.01)

    exact, sparse = Exact(), Sparsify(0.5, print_table=False)
    thaw = BackboneFinetuning(unfreeze_backbone_at_epoch=1, lambda_func=lambda e: 1.0, verbose=False)
    run = trainer(sparse, RigL(period=2, end=1.0), thaw, MaskReapply(), exact, max_epochs=2)
    run.fit(Tuned(), batches("transformer", 6))
    backbone = [name for name in exact.positions[0] if name.startswith("backbone")]
    moved = [
        i
        for i in range(1, 12)
        if any(not torch.equal(exact.positions[i - 1][n], exact.positions[i][n]) for n in backbone)
    ]
    assert moved
    assert min(moved) >= 6


def test_gradient_checkpointing_gives_the_same_masks():
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = TwoLayerTransformer()

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=False)

    class Whole(Checkpointed):
        def forward(self, x):
            return self.inner(x)

    results = []
    for kind in (Checkpointed, Whole):
        torch.manual_seed(1)
        exact, _ = train(Plain(kind()), RigL(period=2, end=1.0))
        results.append(exact.positions[-1])
    assert all(torch.equal(positions, results[1][name]) for name, positions in results[0].items())


def test_shared_weights_train_with_one_mask():
    class Tied(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.embedding, self.body, self.head = (
                nn.Embedding(30, 16),
                nn.Linear(16, 16),
                nn.Linear(16, 30, bias=False),
            )
            self.head.weight = self.embedding.weight

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self.head(self.body(self.embedding(batch))), batch.roll(1))

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    module = Tied()
    exact, _ = train(module, RigL(period=2, end=1.0), loader=DataLoader([torch.arange(30)] * 8, batch_size=None))
    assert list(sparse_layers(module)) == ["body", "head"]
    assert exact.updates == [2, 4]
    assert module.head.weight is module.embedding.weight


@pytest.mark.parametrize(
    ("make", "backend", "steps", "others"),
    [
        (TwoLayerTransformer, "aot_eager", 4, 0),  # forward and backward as the default compiler has them, without C++
        (resnet, "eager", 4, 0),  # the forward graph only
        # fused operations round otherwise: of near ties another one wins, and later steps differ more and more
        pytest.param(resnet, "inductor", 1, 1e-3, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_compiled_whole_and_with_the_masks_of_eager(make, backend, steps, others):
    """The masks break no graph."""
    results = []
    x = torch.randn(4, *((3, 16, 16) if make is resnet else (5, 16)))
    y = torch.tensor([0, 1, 2, 0])
    for compiled in (False, True):
        torch.manual_seed(2)
        module = make()
        sparsify(module, 0.8)
        forward = torch.compile(module, fullgraph=True, backend=backend) if compiled else module
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)
        updater = TopologyUpdater(sparse_layers(module), RigLRule(), CosineSchedule(0.3, 2, 0, 4), optimizer)
        changed = 0
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(forward(x), y).backward()
            changed += bool(updater.before_step())
            optimizer.step()
        assert changed == (steps + 1) // 2
        results.append({name: layer.mask.bool() for name, layer in sparse_layers(module).items()})
    eager, compiled_masks = results
    n_active = sum(int(mask.sum()) for mask in eager.values())
    n_others = sum(int((mask & ~compiled_masks[name]).sum()) for name, mask in eager.items())
    assert n_others <= others * n_active
    assert all(mask.sum() == compiled_masks[name].sum() for name, mask in eager.items())


@pytest.mark.parametrize("storage", ["masked", "csr"])
def test_functional_calls(storage):
    module = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    sparsify(module, 0.5, storage=storage, include=["0"])
    x = torch.randn(5, 20)
    halved = {name: value.detach() / 2 for name, value in module.named_parameters()}
    expected = F.linear(F.relu(module[0](x) / 2), module[2].weight / 2, module[2].bias / 2)
    torch.testing.assert_close(torch.func.functional_call(module, halved, x), expected)
    parameters = dict(module.named_parameters())
    loss = torch.func.functional_call(module, parameters, x).square().sum()
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, list(parameters.values())))


def test_a_rule_serves_one_fit_after_another(tmp_path):
    """Nothing of a checkpoint is left for the next one."""
    rigl = RigL(period=2, end=1.0)
    first, run = train(plain("transformer"), rigl)
    run.save_checkpoint(tmp_path / "end.ckpt")
    module = plain("transformer")
    again = trainer(Sparsify(0.7, print_table=False), rigl, max_steps=8, max_epochs=-1)
    again.fit(module, batches("transformer", 12), ckpt_path=tmp_path / "end.ckpt")
    third, _ = train(plain("transformer"), rigl)
    assert third.updates == first.updates == [2, 4]


def test_max_steps_of_two_optimizers_are_shared_out():
    callback = RigL(period=2, end=1.0)
    trainer(Sparsify(0.7, print_table=False), callback, max_steps=12, max_epochs=-1).fit(
        Adversaries(), batches("transformer", 20)
    )
    assert callback.window.end == 6


def test_a_fused_optimizer_under_fp16_is_refused_in_words():
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    module = plain("transformer", optimizer=lambda m: torch.optim.AdamW(m.parameters(), fused=True))
    with pytest.raises(SettingError, match=r"AdamW .*16-mixed"):
        train(module, RigL(period=2, end=1.0), plugins=[plugin])
