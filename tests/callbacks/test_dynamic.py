"""RigL inside a real Trainer on the digits."""

import copy

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from psn_lightning.callbacks import GMP, SET, DynamicTopology, RigL, SRigL
from psn_lightning.data import Digits
from psn_lightning.dynamics import CosineSchedule, RigLRule, moments_of
from psn_lightning.errors import SettingError
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import FAMILIES, Bernoulli, LognormalAtEquilibrium
from tests.helpers.models import ACCELERATOR


def trainer(*callbacks, **arguments):
    defaults = {
        "max_steps": 40,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "accelerator": ACCELERATOR,
        "devices": 1,
    }
    return pl.Trainer(callbacks=list(callbacks), **{**defaults, **arguments})


def model(**arguments):
    torch.manual_seed(0)
    defaults = {"hidden": [48, 32], "topology": Bernoulli(), "sparsity": 0.8}
    return SparseClassifier(64, 10, **{**defaults, **arguments})


class Watch(pl.Callback):
    """What every optimizer step leaves behind."""

    def __init__(self):
        self.counts, self.masks, self.weights, self.stray = [], [], [], 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        layers = pl_module.network.sparse_layers().values()
        self.counts.append([int(layer.mask.sum()) for layer in layers])
        self.masks.append([layer.mask.clone() for layer in layers])
        self.weights.append([p.detach().clone() for p in pl_module.parameters()])
        for layer in layers:
            tensors = [layer.parameter, *moments_of(layer, trainer.optimizers[0])]
            self.stray = max([self.stray, *(float(t.detach()[~layer.mask].abs().sum()) for t in tensors)])


def changes(masks):
    return [
        i
        for i in range(1, len(masks))
        if any(not torch.equal(a, b) for a, b in zip(masks[i - 1], masks[i], strict=True))
    ]


@pytest.mark.parametrize("arguments", [{}, {"gradient_clip_val": 0.1}, {"precision": "bf16-mixed"}])
@pytest.mark.parametrize("skip", [True, False])
def test_counts_are_constant_and_nothing_strays(arguments, skip):
    watch = Watch()
    # Last in the list: it sees what MaskReapply would have to mend. There is nothing to mend.
    trainer(RigL(period=10, end=1.0, skip_step_on_update=skip), watch, **arguments).fit(model(), Digits(batch_size=64))
    assert len({tuple(counts) for counts in watch.counts}) == 1
    assert changes(watch.masks) == [10, 20, 30]
    assert watch.stray == 0.0


def test_an_update_takes_the_place_of_the_optimizer_step():
    for skip in (True, False):
        watch = Watch()
        task = model()
        trainer(RigL(period=10, begin=10, end=1.0, skip_step_on_update=skip), watch).fit(task, Digits(batch_size=64))
        biases = [next(w for w in weights if w.shape == (10,)) for weights in watch.weights]  # the output's bias
        assert torch.equal(biases[10], biases[9]) == skip
        assert not torch.equal(biases[11], biases[10])


def test_first_update_is_the_oracles():
    """Step 0 by hand: same batch, autograd on dense weights, drop and grow by sorting."""
    data, watch, task = Digits(batch_size=64), Watch(), model()
    reference = copy.deepcopy(task)
    trainer(RigL(period=1, drop_fraction=0.3, end=1.0), watch, max_steps=1).fit(task, data)
    x, y = next(iter(data.train_dataloader()))
    for layer in reference.network.sparse_layers().values():
        layer.record_dense_gradient = True
    torch.nn.functional.cross_entropy(reference(x), y).backward()
    for layer, mask in zip(reference.network.sparse_layers().values(), watch.masks[0], strict=True):
        n = int(layer.mask.sum())
        kept = torch.zeros_like(layer.mask)
        magnitude = layer.parameter.abs().masked_fill(~layer.mask, -1).flatten()
        kept.view(-1)[magnitude.argsort(descending=True)[: n - int(0.3 * n)]] = True
        gradient = layer.parameter.grad.abs().masked_fill(kept, -1).flatten()
        kept.view(-1)[gradient.argsort(descending=True)[: int(0.3 * n)]] = True
        assert torch.equal(mask, kept)


def test_gradient_accumulation_updates_once_per_optimizer_step():
    watch = Watch()
    trainer(RigL(period=5, end=1.0), watch, max_steps=12, accumulate_grad_batches=2).fit(model(), Digits(batch_size=64))
    assert len({tuple(counts) for counts in watch.counts}) == 1
    assert watch.stray == 0.0
    # optimizer steps 5 and 10 end with batches 11 and 21; step 0 with batch 1
    assert changes(watch.masks) == [1, 11, 21]


def test_a_gradient_that_is_not_finite_skips_the_topology_step():
    class Overflow(pl.Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step == 10:
                pl_module.network.output.bias.grad[0] = torch.inf

    for callbacks, expected in (([], [10]), ([Overflow()], [])):
        watch = Watch()
        trainer(RigL(period=10, end=1.0), *callbacks, watch, max_steps=15).fit(model(), Digits(batch_size=64))
        assert changes(watch.masks) == expected


def test_same_seed_same_masks():
    runs = []
    for _ in range(2):
        watch = Watch()
        pl.seed_everything(5)
        trainer(RigL(period=10), watch).fit(model(), Digits(batch_size=64))
        runs.append(watch.masks[-1])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_rigl_is_a_rule_on_a_schedule():
    watches = [Watch(), Watch()]
    twins = [RigL(0.2, 7, 3, 0.9), DynamicTopology(RigLRule(), CosineSchedule(0.2, 7, 3, 0.9))]
    for watch, callback in zip(watches, twins, strict=True):
        pl.seed_everything(5)
        trainer(callback, watch).fit(model(), Digits(batch_size=64))
    assert all(torch.equal(a, b) for a, b in zip(watches[0].masks[-1], watches[1].masks[-1], strict=True))


def test_the_updaters_state_is_in_the_checkpoint():
    callback, other = SET(period=10, begin=0), SET(period=10, begin=0)
    trainer(callback, max_steps=15).fit(model(), Digits(batch_size=64))
    (state,) = callback.state_dict()["updaters"]
    assert state["step"] == 15
    assert not torch.equal(state["generator"], torch.Generator().manual_seed(42).get_state())
    other.load_state_dict(copy.deepcopy(callback.state_dict()))
    assert repr(other.state_dict()) == repr(callback.state_dict())  # also before it is trained with
    trainer(other, max_steps=5).fit(model(), Digits(batch_size=64))
    (continued,) = other.state_dict()["updaters"]
    assert continued["step"] == 20
    assert torch.equal(continued["generator"], state["generator"])  # no update lies in between


@pytest.mark.parametrize(("seed", "environment", "expected"), [(7, "5", 7), (None, "5", 5), (None, None, 42)])
def test_the_seed_is_the_argument_or_that_of_seed_everything_or_42(seed, environment, expected, monkeypatch):
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    if environment is not None:
        monkeypatch.setenv("PL_GLOBAL_SEED", environment)
    callback = DynamicTopology(RigLRule(), CosineSchedule(0.3, 10, 0, 1.0), seed=seed)
    trainer(callback, max_steps=3).fit(model(), Digits(batch_size=64))  # RigL draws nothing
    (state,) = callback.state_dict()["updaters"]
    assert torch.equal(state["generator"], torch.Generator().manual_seed(expected).get_state())


def test_layers_record_nothing_after_the_run():
    task = model()
    trainer(RigL(period=1, end=1.0), max_steps=5).fit(task, Digits(batch_size=64))
    assert not any(layer.record_dense_gradient for layer in task.network.sparse_layers().values())


def test_the_last_update_is_made_up_for_when_its_step_was_skipped():
    class Overflow(pl.Callback):
        def on_after_backward(self, trainer, pl_module):
            if trainer.global_step in (20, 21):
                pl_module.network.output.bias.grad[0] = torch.inf

    watch, callback = Watch(), GMP(period=10, begin=0, end=25, final_sparsity=0.9)
    task = model(sparsity=0.0)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))  # skips such a step
    trainer(callback, Overflow(), watch, max_steps=30, plugins=[plugin]).fit(task, Digits(batch_size=64))
    assert changes(watch.masks) == [10, 22]
    assert [int(layer.mask.sum()) for layer in task.network.sparse_layers().values()] == [307, 154]


METHODS = {
    "RigL": lambda: RigL(period=10, end=1.0),
    "SET": lambda: SET(period=10, begin=0),
    "SRigL": lambda: SRigL(period=10, end=1.0),
    "GMP": lambda: GMP(period=10, final_sparsity=0.95),
}


# The equilibrium is tabulated for the sparsity of the whole, not for what ERK gives a layer.
STARTS = [
    (family, allocation)
    for family in FAMILIES
    for allocation in ("uniform", "erk")
    if (family, allocation) != (LognormalAtEquilibrium, "erk")
]


# Every start under RigL, and a third of them under each of the others.
RULES_AND_STARTS = [
    pytest.param(method, family, allocation, id=f"{method}-{family.__name__}-{allocation}")
    for i, (family, allocation) in enumerate(STARTS)
    for j, method in enumerate(METHODS)
    if method == "RigL" or (i + j) % 3 == 0
]


@pytest.mark.parametrize(("method", "family", "allocation"), RULES_AND_STARTS)
def test_every_rule_from_every_start(method, family, allocation):
    topology = family(offset=-1.0) if family is LognormalAtEquilibrium else family()
    task, watch = model(topology=topology, allocation=allocation), Watch()
    before = task.network.connectivities()
    trainer(METHODS[method](), watch, max_steps=21).fit(task, Digits(batch_size=64))
    assert watch.stray == 0.0
    for connectivity, first in zip(task.network.connectivities().values(), before.values(), strict=True):
        n = connectivity.n_connections
        if method == "GMP":
            assert n == min(round(0.05 * first.n_in * first.n_out), first.n_connections)
        elif method == "SRigL":
            alive = connectivity.fan_in[connectivity.fan_in > 0]
            assert len(set(alive)) == 1
            assert first.n_connections - len(alive) < n <= first.n_connections
        else:
            assert n == first.n_connections


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4),
        lambda parameters: torch.optim.AdamW(parameters, lr=0.01, amsgrad=True),
    ],
)
def test_nothing_strays_whatever_the_optimizer(method, optimizer):
    watch = Watch()
    task = model(optimizer=optimizer, lr_scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.9))
    arguments = {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2, "max_steps": 25}
    trainer(METHODS[method](), watch, **arguments).fit(task, Digits(batch_size=32))
    assert watch.stray == 0.0
    if method in {"RigL", "SET"}:
        assert len({tuple(counts) for counts in watch.counts}) == 1


@pytest.mark.parametrize(("scale", "updates"), [(2.0**45, []), (2.0**10, [5, 10])])
def test_a_step_that_the_fp16_scaler_skips_skips_the_topology_step(scale, updates):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    watch = Watch()
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    trainer(RigL(period=5, end=1.0), watch, max_steps=14, plugins=[plugin]).fit(model(), Digits(batch_size=64))
    assert changes(watch.masks) == updates
    assert (scaler.get_scale() < scale) == (not updates)
    assert watch.stray == 0.0


@pytest.mark.slow  # the compiler takes half a minute
def test_torch_compile_changes_nothing_but_rounding():
    runs = []
    for compiled in (False, True):
        watch = Watch()
        pl.seed_everything(5)
        trainer(RigL(period=10, end=1.0), watch, max_steps=25).fit(model(compile=compiled), Digits(batch_size=64))
        runs.append(watch)
    for a, b in zip(runs[0].weights[-1], runs[1].weights[-1], strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(runs[0].masks[-1], runs[1].masks[-1], strict=True))


def test_two_rules_are_refused():
    with pytest.raises(SettingError, match="RigL and SET"):
        trainer(RigL(), SET()).fit(model(), Digits())


def test_what_a_rule_cannot_start_from_is_refused_before_training():
    with pytest.raises(SettingError, match=r"fc1: .*0\.[78].*final_sparsity 0\.5"):
        trainer(GMP(final_sparsity=0.5, period=10)).fit(model(), Digits())


def test_periods_in_epochs_follow_the_accumulated_steps():
    callback = SET()
    trainer(callback, max_epochs=3, max_steps=-1, accumulate_grad_batches=4).fit(model(), Digits(batch_size=64))
    assert callback.window.period == callback.window.begin == 6  # 23 batches are 6 optimizer steps
    assert callback.window.end == 18


def test_a_begin_that_is_not_before_the_end_is_refused():
    with pytest.raises(SettingError, match=r"begin .*end"):
        trainer(RigL(begin=35, period=10)).fit(model(), Digits())  # the end is step 30
    with pytest.raises(SettingError, match=r"begin .*end"):
        trainer(RigL(begin=200, period=10, end=100)).fit(model(), Digits())


@pytest.mark.parametrize(
    ("arguments", "count", "updates"),
    [
        ({}, "a single", [0]),
        ({"begin": None}, "no", []),
        ({"begin": 40, "period": 10}, "no", []),
    ],
)
def test_a_run_that_is_too_short_for_its_updates_is_warned_of(arguments, count, updates):
    watch, task = Watch(), model()
    first = [layer.mask.clone() for layer in task.network.sparse_layers().values()]
    period = arguments.get("period", 100)
    message = rf"40 optimizer steps has {count} .*\(period {period},"
    with pytest.warns(UserWarning, match=message):
        trainer(RigL(end=1.0, **arguments), watch).fit(task, Digits(batch_size=64))
    assert [step - 1 for step in changes([first, *watch.masks])] == updates


def test_a_run_that_is_only_tried_is_let_pass():
    trainer(RigL(), limit_train_batches=3, max_steps=-1, max_epochs=1).fit(model(), Digits())


def test_pruning_csr_on_several_processes_is_refused_before_the_run(monkeypatch):
    """DDP's buckets have a fixed size; the first update would end the run."""
    task, one = model(storage="csr"), trainer(max_steps=1)
    monkeypatch.setattr(pl.Trainer, "world_size", 2)
    with pytest.raises(SettingError, match="storage masked, or one process"):
        GMP().setup(one, task, "fit")
