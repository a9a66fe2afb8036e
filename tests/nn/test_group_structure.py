"""Products by Triton's kernels, in its interpreter, against those by torch; the latter are tested with their layer."""

import pytest
import torch

from psn_lightning.nn.group_structure import KINDS, GroupStructure
from tests.helpers.interpreter import interpreted

pytest.importorskip("triton")


@pytest.mark.parametrize("interleaved", [False, True])
def test_triton_and_torch_compute_the_same(interleaved, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    n_groups, size, n_in, rows = 4, 16, 40, 20
    groups = torch.arange(n_groups).repeat(size) if interleaved else torch.arange(n_groups).repeat_interleave(size)
    fan_in = torch.tensor([7, 0, 40, 17])
    chosen = [torch.randperm(n_in, generator=generator)[:k].sort().values + n_in * g for g, k in enumerate(fan_in)]
    structure = GroupStructure(groups, n_in, torch.cat(chosen))
    shapes = {"w": (int(fan_in.sum()), size), "x": (n_in, rows), "y": (n_groups * size, rows)}
    drawn = {kind: torch.randint(-3, 4, shapes[kind], generator=generator).float() for kind in KINDS}
    with interpreted():
        for kind in KINDS:
            factors = [drawn[other] for other in KINDS if other != kind]
            expected = structure.solve(kind, *factors)
            monkeypatch.setattr(GroupStructure, "kernels", "triton")
            assert torch.equal(structure.solve(kind, *factors), expected)
            monkeypatch.undo()
