"""Runs on a GPU that is not there (tests/helpers/pretended_gpu.py): no mixed devices, no waits in a plain step."""

import copy

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Metric

from examples.resnet import SmallResNet
from examples.vit import SmallViT
from psn_lightning.callbacks import (
    GMP,
    MEST,
    SET,
    STR,
    CHTs,
    CHTss,
    EpochTimer,
    EquilibriumMonitor,
    ExplorationMonitor,
    GradientRatio,
    GraNet,
    MaskReapply,
    MixtureLogger,
    NumericalGuard,
    Progress,
    Prune,
    RigL,
    Sparsify,
    SRigL,
    TopKAST,
    TopologyLogger,
    TrainingCost,
)
from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.checkpoints import BestAndLast, GeneratorState, OptimizerSettings, PortableMoments
from psn_lightning.commands.predictions import PredictionTable
from psn_lightning.commands.trainer import skip_empty_hooks
from psn_lightning.data import Digits
from psn_lightning.dynamics.rules import SETRule
from psn_lightning.errors import DivergedError, SettingError
from psn_lightning.nn import Mixture
from psn_lightning.paper import RigLVariant
from psn_lightning.pruning import OBD, SNIP, GraSP, Magnitude, SynFlow
from psn_lightning.task import SparseClassifier
from psn_lightning.topology import Bernoulli, Exponential, Grouped
from tests.helpers.pretended_gpu import CUDA, GpuTensor, PretendedGpu, to_cpu

METHODS = {
    "static": [],
    "RigL": [RigL(period=10, end=1.0)],
    "SET": [SET(period=10, end=1.0)],
    "SRigL": [SRigL(period=10, end=1.0)],
    "GMP": [GMP(period=5)],
    "TopKAST": [TopKAST(period=10)],
    "STR": [STR(initial=-4.0)],
    "RigLVariant": [RigLVariant(period=10, end=1.0, gradient_steps=5, grown_value="initial", moments="reset")],
}
RECENT = {
    "EM&S": [MEST(soft=True, period=10, begin=0)],
    "GraNet": [GraNet(period=10, begin=0)],
    "CHTs": [CHTs(period=10, begin=0, end=1.0, removal="importance")],
    "CHTss": [CHTss(period=10, begin=0, end=1.0)],
}
PRUNING = {
    "SNIP": [Prune(SNIP(), 0.9, at=[0, 20])],
    "GraSP": [Prune(GraSP(), 0.9)],
    "SynFlow": [Prune(SynFlow(), 0.9, rounds=3)],
    "Magnitude": [Prune(Magnitude(), 0.9, at=20)],
    "OBD": [Prune(OBD(), 0.9, at=20, n_batches=1)],
}


@pytest.fixture(autouse=True)
def driver(monkeypatch):
    """What needs CUDA's driver: generators of the device, its free memory."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, 2**31))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(16, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)


class PretendedAccelerator(Accelerator):
    """Lightning's view of the device."""

    def setup_device(self, device):
        pass

    def teardown(self):
        pass

    @staticmethod
    def parse_devices(devices):
        return [CUDA]

    @staticmethod
    def get_parallel_devices(devices):
        return [CUDA]

    @staticmethod
    def auto_device_count():
        return 1

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def name():
        return "pretended"


class PretendedStrategy(SingleDeviceStrategy):
    """Moves a module by new parameters: torch swaps those of tensor subclasses, which a hook's reference prevents."""

    def __init__(self):
        super().__init__(device=CUDA)

    def model_to_device(self):
        for module in self.model.modules():
            if isinstance(module, Metric):
                module.to(CUDA)
            for name, weight in module._parameters.items():
                if weight is not None and not isinstance(weight, GpuTensor):
                    moved = GpuTensor(weight.detach().clone())
                    module._parameters[name] = torch.nn.Parameter(moved, requires_grad=weight.requires_grad)
            for name, buffer in module._buffers.items():
                if buffer is not None and not isinstance(buffer, GpuTensor):
                    module._buffers[name] = GpuTensor(buffer.detach().clone())

    def teardown(self):
        """Leave everything where it is."""


class Before(pl.Callback):
    """Tells the pretence what happens, before all other callbacks do something."""

    def __init__(self, gpu):
        self.gpu = gpu

    def on_fit_start(self, trainer, pl_module):
        self.gpu.phase = "start"

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        rules = [callback for callback in trainer.callbacks if isinstance(callback, DynamicTopology)]
        updates = any(updater.is_due for rule in rules for updater in rule._updaters)
        selects = any(isinstance(callback, TopKAST) and callback.is_due(trainer) for callback in trainer.callbacks)
        reads = batch_idx == 0 or (trainer.global_step + 1) % trainer.log_every_n_steps == 0 or trainer.is_last_batch
        self.gpu.phase = "update" if updates or selects else "report" if reads else "step"


class After(pl.Callback):
    """The same, after all others."""

    def __init__(self, gpu):
        self.gpu = gpu

    def on_train_batch_end(self, *_):
        if self.gpu.phase == "step":
            self.gpu.phase = "between steps"

    def on_validation_start(self, *_):
        self.gpu.phase = "evaluation"

    def on_validation_end(self, *_):
        self.gpu.phase = "end of epoch"

    on_train_epoch_end = on_validation_end


def make_trainer(gpu, *callbacks, checkpoints=False, **arguments):
    every = [
        Before(gpu),
        *callbacks,
        NumericalGuard(),
        *([BestAndLast()] if checkpoints else []),
        *(MaskReapply(), PortableMoments(), GradientRatio(), TopologyLogger(), TrainingCost(), EquilibriumMonitor()),
        ExplorationMonitor(),
        EpochTimer(),
        *(GeneratorState(), OptimizerSettings([]), After(gpu)),
    ]
    defaults = {
        "max_epochs": 1,
        "enable_checkpointing": checkpoints,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "logger": False,
        "use_distributed_sampler": False,
    }
    device = {"accelerator": PretendedAccelerator(), "devices": 1, "strategy": PretendedStrategy()}
    trainer = pl.Trainer(callbacks=every, **{**defaults, **device, **arguments})
    skip_empty_hooks(trainer.callbacks)
    return trainer


def make_model(**arguments):
    defaults = {"hidden": [64, 48], "topology": Bernoulli(), "sparsity": 0.8}
    return SparseClassifier(64, 10, **{**defaults, **arguments})


def model_of(method):
    """Model from which a method starts."""
    return make_model(sparsity=0.0 if method in {"TopKAST", "STR"} else 0.8)


def copies(method):
    """Fresh callbacks of a method: a callback belongs to one Trainer."""
    return copy.deepcopy({**METHODS, **PRUNING, **RECENT}[method])


@pytest.mark.parametrize("method", [*METHODS, *PRUNING, *RECENT])
def test_no_devices_are_mixed_and_the_numbers_are_the_cpus(method):
    with PretendedGpu() as gpu:
        task, epochs = model_of(method), 2 if method == "RigL" else 1
        make_trainer(gpu, *copies(method), max_epochs=epochs).fit(task, Digits(batch_size=64))
        found = {name: value.inner for name, value in task.state_dict().items() if isinstance(value, GpuTensor)}
    assert found
    expected = model_of(method)
    host = PretendedGpu()  # not entered: a run on the CPU
    on_cpu = {"accelerator": "cpu", "strategy": "auto"}
    make_trainer(host, *copies(method), max_epochs=epochs, **on_cpu).fit(expected, Digits(batch_size=64))
    for name, value in expected.state_dict().items():
        if name in found:
            assert torch.equal(found[name], value), name


GROUPED = {"topology": Grouped(8, Exponential(), neurons="interleaved"), "storage": "groups"}


@pytest.mark.parametrize("method", ["static", "RigL", "SET", "SRigL", "GMP"])
def test_groups_are_computed_there(method):
    """Padded on the device, not on the CPU; a plain step waits as rarely, and only for what others wait for."""
    with PretendedGpu() as gpu:
        task = make_model(**GROUPED)
        make_trainer(gpu, *copies(method)).fit(task, Digits(batch_size=64))
        found = {name: value.inner for name, value in task.state_dict().items() if isinstance(value, GpuTensor)}
        assert len(task.network.fc1.structure.buckets.all) <= 8
    assert not gpu.waits("step", "between steps")
    expected = make_model(**GROUPED)
    on_cpu = {"accelerator": "cpu", "strategy": "auto"}
    make_trainer(PretendedGpu(), *copies(method), **on_cpu).fit(expected, Digits(batch_size=64))
    assert task.network.fc1.structure.size == 8
    for name, value in expected.state_dict().items():
        if name in found:
            torch.testing.assert_close(found[name], value, atol=1e-3, rtol=1e-3)


class StopAt(pl.Callback):
    """Ends a run within an epoch."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step


@pytest.mark.parametrize("method", ["RigL", "SET", "RigLVariant", "TopKAST", "STR", "SNIP"])  # by what they save
def test_a_run_goes_on(method, tmp_path):
    """Stopped between two updates; RigLVariant between two gradients that it sums."""
    data, lengths = Digits(batch_size=64), {"max_epochs": -1, "default_root_dir": tmp_path, "checkpoints": True}
    with PretendedGpu() as gpu:
        trainer = make_trainer(gpu, *copies(method), StopAt(17), max_steps=46, **lengths)
        trainer.fit(model_of(method), data)
    (last,) = tmp_path.rglob("last.ckpt")
    torch.save(to_cpu(torch.load(last, map_location="cpu", weights_only=False)), tmp_path / "plain.ckpt")
    with PretendedGpu() as gpu:
        trainer = make_trainer(gpu, *copies(method), max_steps=30, **lengths)
        trainer.fit(model_of(method), data, ckpt_path=str(tmp_path / "plain.ckpt"), weights_only=False)
    assert trainer.global_step == 30


@pytest.mark.parametrize("method", METHODS)
def test_a_plain_step_never_waits(method):
    with PretendedGpu() as gpu:
        make_trainer(gpu, *copies(method), Progress(), enable_progress_bar=True).fit(
            model_of(method), Digits(batch_size=64)
        )
    found = gpu.waits("step", "between steps")
    assert all("callbacks/progress.py" in line for _, _, line in found), found  # the bar, four times a second at most
    assert gpu.waits("report")  # the guard reads its flag there: the pretence sees waits


def test_a_step_waits_once_for_each_mixture():
    """For the numbers of rows of its experts; balance losses and shares are not read. The numbers are the CPU's."""
    arguments = {"sparsity": 0.0, "mixture": Mixture(6, 2, hidden=8)}
    with PretendedGpu() as gpu:
        task, watch = make_model(**arguments), Phases(gpu)
        torch.manual_seed(2)
        make_trainer(gpu, watch, MixtureLogger()).fit(task, Digits(batch_size=64))
        found = {name: value.inner for name, value in task.state_dict().items() if isinstance(value, GpuTensor)}
    waits = gpu.waits("step", "between steps")
    assert waits.total() == 2 * watch.steps > 0, waits
    assert all("nn/moe.py" in line for _, _, line in waits), waits
    expected = make_model(**arguments)
    on_cpu = {"accelerator": "cpu", "strategy": "auto"}
    torch.manual_seed(2)
    make_trainer(PretendedGpu(), MixtureLogger(), **on_cpu).fit(expected, Digits(batch_size=64))
    assert all(torch.equal(found[name], value) for name, value in expected.state_dict().items() if name in found)


class Phases(pl.Callback):
    """Counts the plain steps."""

    def __init__(self, gpu):
        self.gpu, self.steps = gpu, 0

    def on_train_batch_start(self, *_):
        self.steps += self.gpu.phase == "step"


WAITS_OF_AN_UPDATE = {"static": 0, "RigL": 28, "SET": 34, "SRigL": 48, "GMP": 26, "RigLVariant": 40, "TopKAST": 13}


@pytest.mark.parametrize("method", WAITS_OF_AN_UPDATE)
def test_an_update_waits_no_more_often_than_it_did(method):
    with PretendedGpu() as gpu:
        watch = Updates()
        make_trainer(gpu, *copies(method), watch).fit(model_of(method), Digits(batch_size=64))
    waits = gpu.waits("update").total()
    assert waits <= WAITS_OF_AN_UPDATE[method] * watch.count, gpu.waits("update")
    assert (waits > 0) == (method != "static")


class Updates(pl.Callback):
    """Counts the steps with an update."""

    def __init__(self):
        self.count = 0

    def on_train_batch_end(self, trainer, *_):
        for callback in trainer.callbacks:
            self.count += isinstance(callback, DynamicTopology) and bool(callback.changes)
            self.count += isinstance(callback, TopKAST) and 0 < callback._selected == trainer.global_step - 1


class Poison(pl.Callback):
    """A batch with a feature that is not finite, and copies of weights and moments before every step."""

    def __init__(self, step):
        self.step, self.states = step, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            batch[0][0, 0] = float("nan")
        self.states.append(copy.deepcopy(self.state(trainer, pl_module)))

    @staticmethod
    def state(trainer, pl_module):
        network = pl_module.network.state_dict()
        optimizer = trainer.optimizers[0].state_dict()["state"]
        return [value.inner for value in (*network.values(), *(t for s in optimizer.values() for t in s.values()))]


@pytest.mark.parametrize(
    ("method", "step"),  # within an epoch of 23 steps, where the host does not look; the last one
    [*((method, 7) for method in (*METHODS, "SNIP")), ("static", 22), ("RigL", 22), ("STR", 22)],
)
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_told_later(method, step, tmp_path):
    with PretendedGpu() as gpu:
        task, poison = model_of(method), Poison(step)
        trainer = make_trainer(gpu, *copies(method), poison, default_root_dir=tmp_path)
        with pytest.raises(DivergedError, match=rf"(?s)at step {step}\. .*before the step") as stopped:
            trainer.fit(task, Digits(batch_size=64))
        assert all(map(torch.equal, poison.state(trainer, task), poison.states[step]))
        assert not hasattr(trainer.optimizers[0], "found_inf")
    assert trainer.current_epoch == 0
    assert str(tmp_path / "autopsy.ckpt") in str(stopped.value)


@pytest.mark.parametrize("end", [{"max_steps": 12, "max_epochs": -1}, {}])
def test_no_checkpoint_is_saved_after_it(end, tmp_path):
    """Neither at the last step nor when the run is stopped: its steps since then have changed nothing."""
    with PretendedGpu() as gpu:
        callbacks = [Poison(7), *([] if end else [StopAt(12)])]
        trainer = make_trainer(gpu, *callbacks, checkpoints=True, default_root_dir=tmp_path, **end)
        with pytest.raises(DivergedError, match="at step 7"):
            trainer.fit(make_model(), Digits(batch_size=64))
    assert not list(tmp_path.rglob("last.ckpt"))


def test_an_optimizer_that_cannot_be_held_is_watched_by_its_loss(tmp_path):
    with PretendedGpu() as gpu:
        task = make_model(optimizer=torch.optim.AdamW)
        trainer = make_trainer(gpu, Poison(7), default_root_dir=tmp_path)
        with pytest.raises(DivergedError, match="the loss is nan at or up to 50 steps before step 22"):
            trainer.fit(task, Digits(batch_size=64))


def test_overfit_batches_are_whole():
    """Lightning replaces the sampler."""
    with PretendedGpu() as gpu:
        sizes = Sizes()
        make_trainer(gpu, sizes, overfit_batches=2, max_epochs=2).fit(make_model(), Digits(batch_size=64))
    assert sizes.seen == [64] * 4


class Sizes(pl.Callback):
    """Rows of each training batch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(len(batch[1]))


EXAMPLES = {
    "resnet": lambda: SmallResNet(widths=(8, 16)),
    "vit": lambda: SmallViT(width=16, depth=1, heads=2),
}


def images():
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(64, 1, 28, 28, generator=generator), torch.randint(10, (64,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=16)


@pytest.mark.parametrize(("name", "rule"), [("resnet", RigL), ("vit", RigL), ("vit", SET), ("resnet", SRigL)])
def test_layers_of_other_peoples_models(name, rule):
    """Convolutions, attention, linear layers: devices agree, and the numbers are those of the CPU."""

    def train(gpu, **device):
        pl.seed_everything(4, verbose=False)
        task = EXAMPLES[name]()
        callbacks = [Sparsify(0.7, print_table=False), rule(period=2, end=1.0), EMAWeightAveraging()]
        trainer = make_trainer(gpu, *callbacks, max_epochs=1, **device)
        trainer.fit(task, images())
        return task.state_dict()

    with PretendedGpu() as gpu:
        found = {key: value.inner for key, value in train(gpu).items()}
    expected = train(PretendedGpu(), accelerator="cpu", strategy="auto")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        *(("RigL", precision) for precision in ("64-true", "bf16-true", "bf16-mixed", "16-mixed")),
        ("static", "16-mixed"),
    ],
)
def test_precisions(method, precision, tmp_path):
    """Of AMP the casts: on the pretended device autocast is that of the CPU."""
    plugins = []
    if "mixed" in precision:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8) if precision == "16-mixed" else None
        plugins = [MixedPrecision(precision, "cpu", scaler)]
    chosen = {"plugins": plugins} if plugins else {"precision": precision}
    with PretendedGpu() as gpu:
        task = model_of(method)
        table = PredictionTable(str(tmp_path / "predictions.csv"))
        trainer = make_trainer(gpu, *copies(method), table, inference_mode=False, **chosen)
        trainer.fit(task, Digits(batch_size=64))
        assert torch.isfinite(trainer.callback_metrics["test/loss"])
        assert len(trainer.predict(task, Digits(batch_size=64))[0]["label"]) == 360
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(lines) == 361


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # torch sees no GPU
def test_rows_stay_on_the_host_where_they_do_not_fit(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**10, 2**31))
    with PretendedGpu() as gpu:
        data = Digits(batch_size=64)
        make_trainer(gpu, max_epochs=1).fit(make_model(), data)
        assert not isinstance(data.train_dataloader().dataset.x, GpuTensor)
        assert data.train_dataloader().pin_memory


def test_csr_is_refused_with_the_remedy():
    with PretendedGpu() as gpu, pytest.raises(SettingError, match="storage masked"):
        make_trainer(gpu).fit(make_model(storage="csr"), Digits(batch_size=64))


class Planted(SETRule):
    """SET with a fault that CUDA would not forgive."""

    fault = "cpu result"

    def grow_scores(self, block, generator):
        mask = block.mask
        if self.fault == "cpu result":
            return torch.rand(mask.shape, generator=generator)
        if self.fault == "cpu generator":
            return torch.rand(mask.shape, generator=generator, device=mask.device)
        return torch.from_numpy(mask.numpy().astype("float32")).to(mask.device)


@pytest.mark.parametrize("fault", ["cpu result", "cpu generator", "numpy"])
def test_the_pretence_finds_planted_faults(fault):
    rule = Planted()
    rule.fault = fault
    with PretendedGpu() as gpu:
        trainer = make_trainer(gpu, DynamicTopology(rule, SET(period=10).schedule))
        with pytest.raises((RuntimeError, TypeError), match=r"cuda|same device"):
            trainer.fit(make_model(), Digits(batch_size=64))
