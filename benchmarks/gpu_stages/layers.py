"""Single layers: topology updates, cuSPARSE."""

from __future__ import annotations

import functools
import time

import torch
import torch.nn.functional as F

from benchmarks.gpu_stages.session import Session, matmul_precision
from benchmarks.gpu_stages.steps import network
from psn_lightning.dynamics import RigLRule, SETRule, SRigLRule, update_layer


def update(session: Session) -> None:
    """One topology update of one layer, and its connections on their way to the host."""
    for width in (64,) if session.quick else (1024, 4096, 8192):
        for rule in (RigLRule(), SETRule(), SRigLRule()):
            if session.seconds_left < 40:
                return
            what = f"{width} × {width}, {type(rule).__name__}"
            with session.tried(what):
                net = network(session, width, width, 10)
                layer = net.sparse_layers()["fc1"]
                layer.record_dense_gradient = True
                optimizer = torch.optim.Adam(net.parameters(), fused=True)
                rows = torch.randn(32, width, device=session.device)
                F.cross_entropy(net(rows), torch.zeros(32, dtype=torch.int64, device=session.device)).backward()
                optimizer.step()
                generator = torch.Generator().manual_seed(1)
                call = functools.partial(update_layer, layer, rule, 0.1, optimizer, generator)
                us, _ = session.time(call, 3 if session.quick or width > 4096 else 10, 1)  # SET draws on the CPU
                start = time.perf_counter()
                connections = layer.connectivity.n_connections
                read = round((time.perf_counter() - start) * 1e3, 2)
                session.note(what, ms=round(us / 1e3, 2), connections=connections, connections_to_the_host_ms=read)


def sparse(session: Session) -> None:
    """Sparse products of cuSPARSE against dense ones."""
    cases = [(1024, 128), (4096, 128), (4096, 1024), (16384, 128), (16384, 1024)]
    for width, batch in [(64, 32)] if session.quick else cases:
        x = torch.randn(batch, width, device=session.device)
        w = torch.randn(width, width, device=session.device)
        n = 3 if session.quick else 30
        for name, precision, dtype in (
            ("float32", "highest", torch.float32),
            ("TF32", "high", torch.float32),
            ("bf16", "high", torch.bfloat16),
        ):
            what = f"{width}, {batch} rows: dense {name}"
            with session.tried(what), matmul_precision(precision):
                a, b = x.to(dtype), w.to(dtype)
                session.note(what, us=session.time(lambda a=a, b=b: F.linear(a, b), n)[0])
        for sparsity in (0.9,) if session.quick else (0.9, 0.98, 0.99, 0.999):
            if session.seconds_left < 30:
                return
            csr = (w * (torch.rand(width, width, device=session.device) >= sparsity)).to_sparse_csr()
            columns, g = x.T.contiguous(), torch.randn(width, batch, device=session.device)
            for name, call in (
                ("SpMM", lambda csr=csr, columns=columns: csr @ columns),
                ("SDDMM", lambda csr=csr, g=g, x=x: torch.sparse.sampled_addmm(csr, g, x, beta=0.0)),
            ):
                what = f"{width}, {batch} rows, {sparsity:.1%}: {name}"
                with session.tried(what):
                    session.note(what, us=session.time(call, n)[0])
