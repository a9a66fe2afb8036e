"""A run on an ordinary shuffled DataLoader, resumed within an epoch, is the run that was not stopped."""

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from psn_lightning import MaskReapply, RigL, Sparsify
from psn_lightning.checkpoints import GeneratorState, PortableMoments, ReplayOrder
from psn_lightning.checkpoints.replay import ReplayableLoader
from tests.helpers.models import SaveAt, plain, trainer


class Augmented(Dataset):
    """Rows that are never the same: an augmentation draws from torch's generator."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        row = torch.linspace(-1, 1, 80).view(5, 16) * (index + 1) / 40
        return row + 0.1 * torch.randn(5, 16), index % 3


def fit(workers, *callbacks, checkpoint=None):
    module = plain("transformer")
    seen = []
    original = module.training_step

    def noted(batch, batch_idx):
        seen.append(batch[0].sum().item())
        return original(batch, batch_idx)

    module.training_step = noted
    usual = [Sparsify(0.5, print_table=False), RigL(period=3, end=1.0), MaskReapply()]
    usual += [GeneratorState(), PortableMoments(), ReplayOrder()]
    run = trainer(*usual, *callbacks, max_steps=13, max_epochs=-1)
    loader = DataLoader(Augmented(), batch_size=8, shuffle=True, num_workers=workers)
    torch.manual_seed(8)
    run.fit(module, loader, ckpt_path=checkpoint)
    return module, seen


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("step", [3, 5, 8])
def test_stopped_within_an_epoch_and_resumed(workers, step, tmp_path):
    """Five batches are an epoch."""
    straight, rows = fit(workers, SaveAt(step, tmp_path))
    torch.manual_seed(99)
    resumed, rest = fit(workers, checkpoint=tmp_path / f"{step}.ckpt")
    assert rest == rows[step:]
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in straight.state_dict().items())


def test_a_loader_is_what_it_wraps():
    inner = DataLoader(list(range(10)), batch_size=3, shuffle=True)
    loader = ReplayableLoader(inner)
    assert len(loader) == 4
    assert loader.batch_size == 3
    torch.manual_seed(1)
    first = [batch.tolist() for batch in loader]
    assert loader.n_used == 4
    loader.replay(loader.start_states, 2)
    assert [batch.tolist() for batch in loader] == first[2:]
    assert [batch.tolist() for batch in loader] != first


class Stream(IterableDataset):
    """Forty rows, of which nobody knows how many there are."""

    def __iter__(self):
        return iter([Augmented()[i] for i in range(40)])


@pytest.mark.parametrize("step", [3, 5])
def test_a_loader_without_length_loses_no_epoch(step, tmp_path):
    """Within an epoch, and where one has ended."""
    runs = []
    for checkpoint in (None, tmp_path / f"{step}.ckpt"):
        module = plain("transformer")
        run = trainer(ReplayOrder(), GeneratorState(), SaveAt(step, tmp_path), max_epochs=3)
        run.fit(module, DataLoader(Stream(), batch_size=8), ckpt_path=checkpoint)
        runs.append(run.global_step)
    assert runs == [15, 15]


def test_a_shorter_loader_beside_a_longer_one(tmp_path):
    """Lightning begins the shorter one anew: its iterator is another than the epoch's."""

    class Pair(type(plain("transformer"))):
        def training_step(self, batch, batch_idx):
            self.seen.append([part[0].sum().item() for part in batch.values()])
            return super().training_step(batch["long"], batch_idx)

    def run(checkpoint=None):
        module = Pair(plain("transformer").net)
        module.seen = []
        loaders = {name: DataLoader(Augmented(), batch_size=size, shuffle=True) for name, size in SIZES.items()}
        torch.manual_seed(8)
        fitting = trainer(ReplayOrder(), GeneratorState(), SaveAt(4, tmp_path), max_epochs=1)
        fitting.fit(module, loaders, ckpt_path=checkpoint)
        return module.seen

    whole = run()
    assert run(tmp_path / "4.ckpt") == whole[4:]


SIZES = {"long": 8, "short": 20}


@pytest.mark.parametrize("again", [False, True], ids=["each epoch", "second fit"])
def test_a_loader_that_is_made_anew_is_the_one_that_is_resumed(again, tmp_path):
    """A trainer that makes its loaders anew for each epoch, or is used twice, has had others before."""

    def run(checkpoint=None):
        module = plain("transformer")
        fitted = trainer(
            GeneratorState(),
            PortableMoments(),
            ReplayOrder(),
            *([] if checkpoint else [SaveAt(8, tmp_path)]),
            max_steps=5 if again and not checkpoint else 13,
            max_epochs=-1,
            reload_dataloaders_every_n_epochs=0 if again else 1,
        )
        torch.manual_seed(8)
        module.train_dataloader = lambda: DataLoader(Augmented(), batch_size=8, shuffle=True)
        fitted.fit(module, ckpt_path=checkpoint)
        if fitted.global_step < 13:
            fitted.fit_loop.epoch_loop.max_steps = 13
            fitted.fit(module)
        return module, fitted

    straight, first = run()
    resumed, second = run(tmp_path / "8.ckpt")
    assert first.global_step == second.global_step == 13
    for key, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_what_lightning_sets_on_a_loader_is_set_on_it():
    inner = DataLoader(list(range(10)), batch_size=3)
    loader = ReplayableLoader(inner)
    loader.worker_init_fn = print
    assert inner.worker_init_fn is print
