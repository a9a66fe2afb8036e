"""Dynamic sparse training of models that are not ours: exact counts, exact zeros, exact resume, equal processes."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from psn_lightning import GMP, SET, SNIP, MaskReapply, Prune, RigL, Sparsify, SRigL, sparse_layers
from psn_lightning.checkpoints import GeneratorState, PortableMoments, ReplayOrder
from psn_lightning.dynamics import moments_of
from psn_lightning.errors import SettingError
from tests.helpers.models import MODELS, SaveAt, batches, plain, trainer

RULES = {
    "RigL": lambda: RigL(period=2, end=1.0),
    "SET": lambda: SET(period=2, begin=0),
    "SRigL": lambda: SRigL(period=2, end=1.0),
    "GMP": lambda: GMP(0.8, period=2, end=1.0),
}
RANKED = {**RULES, "SNIP": lambda: Prune(SNIP(), 0.9, at=[0, 3])}
"""Rules, and pruning, that two processes run."""
STEPS = 6  # updates at 0, 2 and 4
DENSE_AT_FIRST = ("GMP",)


def callbacks(rule, *further):
    sparsity = 0.0 if rule in DENSE_AT_FIRST else 0.8
    sparse = Sparsify(sparsity, print_table=False)
    return [ReplayOrder(), RANKED[rule](), sparse, MaskReapply(), PortableMoments(), GeneratorState(), *further]


class Watch(pl.Callback):
    """What every step leaves behind; it comes before MaskReapply has mended anything."""

    def __init__(self):
        self.positions = []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        self.look(pl_module, optimizer)

    def on_train_end(self, trainer, pl_module):
        self.look(pl_module, trainer.optimizers[0])

    def look(self, pl_module, optimizer):
        layers = sparse_layers(pl_module)
        self.positions.append({name: layer.active_positions() for name, layer in layers.items()})
        for layer in layers.values():
            for tensor in (layer.parameter.detach(), *moments_of(layer, optimizer)):
                assert torch.equal(tensor * layer.mask.view(tensor.shape), tensor)

    def counts(self, name):
        return [len(positions[name]) for positions in self.positions]


def fit(name, rule, *further, steps=STEPS, checkpoint=None, **arguments):
    module = plain(name)
    run = trainer(*callbacks(rule, *further), max_steps=steps, max_epochs=-1, **arguments)
    run.fit(module, batches(name), ckpt_path=checkpoint)
    return module, run


@pytest.fixture(scope="module", params=itertools.product(MODELS, RULES), ids="-".join)
def straight(request, tmp_path_factory):
    """A run without a stop: model, rule, what each step left behind, module, Trainer, checkpoint after step 3."""
    name, rule = request.param
    watch, folder = Watch(), tmp_path_factory.mktemp("straight")
    module, run = fit(name, rule, watch, SaveAt(3, folder))
    return SimpleNamespace(name=name, rule=rule, watch=watch, module=module, run=run, checkpoint=folder / "3.ckpt")


def test_counts_are_exact_and_absent_weights_zero(straight):
    watch, rule, module = straight.watch, straight.rule, straight.module
    layers = sparse_layers(module)
    changed = {
        key: any(not torch.equal(a[key], b[key]) for a, b in zip(watch.positions, watch.positions[1:], strict=False))
        for key in layers
    }
    for key, layer in layers.items():
        size, counts = layer.n_out * layer.n_in, watch.counts(key)
        if rule == "GMP":
            assert counts[0] == size
            assert counts[-1] == round(0.2 * size)
            assert counts == sorted(counts, reverse=True)
        elif rule == "SRigL":
            alive = layer.fan_in[layer.fan_in > 0]
            assert len(set(alive.tolist())) == 1
            assert counts[-1] == counts[0] // len(alive) * len(alive)
        else:
            assert len(set(counts)) == 1
        assert changed[key] or counts[0] == size
    dense = set(MODELS[straight.name][0]().state_dict())
    masks = {key for key in module.net.state_dict() if key.endswith("_mask")}
    assert set(module.net.state_dict()) == dense | masks
    assert len(masks) == len(layers)


def test_stopped_and_resumed_it_is_the_same_run(straight):
    resumed, again = fit(straight.name, straight.rule, checkpoint=straight.checkpoint)
    for key, value in straight.module.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    states = [r.optimizers[0].state_dict()["state"] for r in (straight.run, again)]
    for index, state in states[0].items():
        assert all(torch.equal(value, states[1][index][key]) for key, value in state.items())


RANKS = """
import sys
import torch
from tests.test_any_model import MODELS, RANKED, fit

for name in MODELS:
    for rule in RANKED:
        module, run = fit(name, rule, strategy="ddp", devices=2, use_distributed_sampler=True, steps=5)
        torch.save(module.state_dict(), f"{name}-{rule}-{run.global_rank}.pt")
"""


@pytest.mark.services
def test_two_processes_have_the_same_network(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    root = str(Path(__file__).parents[1])
    launched = {"LOCAL_RANK", "WORLD_SIZE", "NODE_RANK"}
    env = {k: v for k, v in os.environ.items() if k not in launched} | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in MODELS:
        for rule in RANKED:
            ranks = [torch.load(tmp_path / f"{name}-{rule}-{rank}.pt") for rank in (0, 1)]
            statistics = ("running_mean", "running_var")  # of each rank's own batches, as in any DDP run
            keys = [key for key in ranks[0] if not key.endswith(statistics)]
            assert any(key.endswith("_mask") for key in keys)
            assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in keys), (name, rule)


def test_a_module_without_sparse_layers_is_refused_in_words():
    with pytest.raises(SettingError, match="Plain"):
        trainer(RigL(), max_steps=1).fit(plain("transformer"), batches("transformer"))


def test_a_rule_may_be_given_some_of_the_layers():
    watch, module = Watch(), plain("transformer")
    rigl = RigL(period=2, end=1.0, layers=["*.linear?", "net.head"])
    trainer(Sparsify(0.8, print_table=False), rigl, watch, max_steps=6).fit(module, batches("transformer"))
    moved = {key for key in watch.positions[0] if not torch.equal(watch.positions[0][key], watch.positions[-1][key])}
    layers = range(2)
    assert moved == {f"net.encoder.layers.{i}.linear{k}" for i in layers for k in (1, 2)} | {"net.head"} - dense(module)
    with pytest.raises(SettingError, match=r"layers .*'fc\*'"):
        trainer(RigL(layers=["fc*"]), max_steps=1).fit(module, batches("transformer"))


def dense(module):
    """Layers that have nothing to gain or lose."""
    return {name for name, layer in sparse_layers(module).items() if bool(layer.mask.all())}


def test_the_layers_may_be_made_in_configure_model():
    class Late(type(plain("transformer"))):
        def configure_model(self):
            if self.net is None:
                self.net = MODELS["transformer"][0]()

    module = Late(None)
    trainer(*callbacks("RigL"), max_steps=3).fit(module, batches("transformer"))
    assert len(sparse_layers(module)) == 9
