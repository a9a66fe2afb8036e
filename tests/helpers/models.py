"""Dense models, LightningModules, loaders and trainers for tests."""

import os
from collections import OrderedDict

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models.resnet import BasicBlock

from psn_lightning.task import SparseClassifier

ACCELERATOR = os.environ.get("PSN_TEST_ACCELERATOR", "cpu")
"""Lightning's name of the accelerator that tests train on; tests of storage csr are skipped where it is another."""


class TwoLayerTransformer(nn.Module):
    """An encoder on sequences ``(batch, 5, 16)``, with a head."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(dim=1))


def resnet():
    """A narrow ResNet of torchvision's blocks: ResNet-18 has 11 million weights, and shows no more."""
    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
    blocks = {"layer1": BasicBlock(8, 8), "layer2": BasicBlock(8, 16, stride=2, downsample=shortcut)}
    stem = {"conv1": nn.Conv2d(3, 8, 3, padding=1, bias=False), "bn1": nn.BatchNorm2d(8), "relu": nn.ReLU()}
    head = {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": nn.Linear(16, 3)}
    return nn.Sequential(OrderedDict(**stem, **blocks, **head))


class TwoOptimizers(SparseClassifier):
    """Manual optimization: the first layer has an optimizer of its own; absent weights are 0 also between two steps."""

    automatic_optimization = False

    def configure_optimizers(self):
        first, *others = self.network.children()
        rest = [p for module in others for p in module.parameters()]
        return [torch.optim.Adam(first.parameters(), 0.01), torch.optim.Adam(rest, 0.01)]

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
            for layer in self.sparse_layers().values():
                assert not layer.parameter.detach()[~layer.mask].any()
        return loss


MODELS = {"resnet": (resnet, (3, 16, 16)), "transformer": (TwoLayerTransformer, (5, 16))}
"""Constructor of each model, and the shape of its inputs."""


def in_another_order(module):
    """AdamW with two param groups, in another order than the module's own."""
    parameters = list(module.parameters())[::-1]
    flat = [p for p in parameters if p.dim() < 2]
    return torch.optim.AdamW(
        [{"params": flat, "weight_decay": 0.0}, {"params": [p for p in parameters if p.dim() > 1]}], lr=0.01
    )


class Plain(pl.LightningModule):
    """Any network, trained with cross entropy."""

    def __init__(self, net, optimizer=in_another_order):
        super().__init__()
        self.net = net
        self.make_optimizer = optimizer

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x), y))

    def configure_optimizers(self):
        return self.make_optimizer(self)


def plain(name, **arguments):
    """Make a LightningModule around one of :data:`MODELS`, with equal weights at every call."""
    torch.manual_seed(3)
    return Plain(MODELS[name][0](), **arguments)


def batches(name, n=6, size=4):
    """Make a loader of ``n`` batches in a fixed order."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(n * size, *MODELS[name][1], generator=generator)
    return DataLoader(TensorDataset(x, torch.randint(3, (n * size,), generator=generator)), batch_size=size)


def trainer(*callbacks, **arguments):
    """Make a Trainer without logger, checkpoints and progress bar."""
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(callbacks=list(callbacks), **{"accelerator": ACCELERATOR, "devices": 1, **quiet, **arguments})


class SaveAt(pl.Callback):
    """Writes ``<step>.ckpt`` after a step, and lets the run go on."""

    def __init__(self, step, folder):
        self.step, self.folder = step, folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.folder / f"{self.step}.ckpt")
