"""One step of a mixture on two processes, for tests/test_ddp.py: each process writes its gradients and counts.

python -m tests.helpers.ddp_mixture FOLDER
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from psn_lightning.nn import MixtureLayer, auxiliary_loss

PROCESSES = 2


def step(rank, wrap=lambda layer: layer):
    """Gradients and numbers of rows after a process's three rows, of which 14 of 20 experts see none."""
    torch.manual_seed(1)
    layer = MixtureLayer(6, 5, experts=20, active=2, hidden=3).double()
    torch.nn.init.normal_(layer.gate)
    rows = torch.randn(PROCESSES, 3, 6, dtype=torch.float64)[rank]
    net = wrap(layer)
    for _ in range(2):  # DDP notices in the next pass that a gradient has not come
        layer.zero_grad()
        torch.manual_seed(10 + rank)
        (net(rows).square().mean() + auxiliary_loss(net)).backward()
    return [parameter.grad for parameter in layer.parameters()], layer.route(rows).counts


def work(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    torch.save(step(rank, DistributedDataParallel), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(work, (sys.argv[1],), PROCESSES)
