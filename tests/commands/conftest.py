"""A machine with GPUs, as torch states it."""

import pytest
import torch


@pytest.fixture
def four_gpus(monkeypatch):
    """A machine that says it has four GPUs; nothing may be computed on them."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
