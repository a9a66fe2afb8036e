"""What the first time on a GPU decides, in one call of at most ten minutes: ``python -m benchmarks.gpu [STAGE …]``.

Every figure is a line of ``gpu.jsonl`` in ``--out``, written as it is measured. The stages come in order of worth and
are left out when the budget is spent. Each has a prediction, written down before any card was seen, and a decision that
hangs on it. No data set is needed. ``--device cpu --quick`` shows without a GPU that the script itself runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu_stages import group_kernels, groups, layers, runs, steps, trainer_steps
from benchmarks.gpu_stages.session import Session, matmul_precision


def where(session: Session) -> None:
    """What machine this is: ceilings for all that follows."""
    session.note(
        "torch",
        version=torch.__version__,
        cuda=torch.version.cuda,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
    )
    if session.device != "cuda":
        return
    card = torch.cuda.get_device_properties(0)
    session.note(
        card.name,
        memory=f"{card.total_memory / 2**30:.0f} GiB",
        multiprocessors=card.multi_processor_count,
        capability=f"{card.major}.{card.minor}",
        gpus=torch.cuda.device_count(),
    )
    n, m = 2**28, 8192
    a, b = torch.empty(n, device="cuda"), torch.empty(n, device="cuda").normal_()
    us, _ = session.time(lambda: a.copy_(b), 20)
    session.note("copy on the device, bytes read and written", TB_per_s=round(8 * n / us / 1e6, 2))
    for name, dtype, precision in (
        ("float32", torch.float32, "highest"),
        ("TF32", torch.float32, "high"),
        ("bf16", torch.bfloat16, "high"),
    ):
        x, y = (torch.randn(m, m, device="cuda", dtype=dtype) for _ in range(2))
        with matmul_precision(precision):
            us, _ = session.time(lambda x=x, y=y: x @ y, 10)
        session.note(f"product of {m} × {m}, {name}", TFLOP_per_s=round(2 * m**3 / us / 1e6))
    x = torch.zeros(1, device="cuda")
    read, launch = session.time(lambda: x.add_(1).item(), 200)[0], session.time(lambda: x.add_(1), 1000)[0]
    session.note("a launch, read by the host", us=read, launch_alone_us=launch)


def crowd(session: Session) -> None:
    """Several runs at once on one device, each a process with its share of the cores."""
    alone: float | None = None
    for n in (1, 2) if session.quick else (1, 2, 4, 8):
        if session.seconds_left < 45:
            return
        with session.tried(f"{n} runs at once"):
            env = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // n))}
            command = [sys.executable, "-m", "benchmarks.gpu", "one", "--device", session.device]
            command += ["--quick"] if session.quick else []
            processes = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(n)]
            try:
                printed = [p.communicate(timeout=max(30, session.seconds_left))[0] for p in processes]
            finally:
                for process in processes:
                    process.kill()
            us = [float(text.split("STEP")[1].split()[0]) for text in printed]
            alone = alone or us[0]
            speed = round(n * alone / statistics.mean(us), 2)
            session.note(f"{n} runs at once", us_per_step=round(statistics.mean(us), 1), throughput_of_one=speed)


@dataclass(frozen=True)
class Stage:
    """A stage, the prediction for an H100, and the decision."""

    function: Callable[[Session], None]
    prediction: str
    decision: str


STAGES = {
    "where": Stage(
        where,
        "copy 3.0 TB/s; float32 50, TF32 350 to 400, bf16 790 TFLOP/s; a launch 3 to 5 µs, read 15 to 20 µs",
        "none: the ceilings of the rest",
    ),
    "right": Stage(
        runs.right,
        "64-bit losses within 1e-9 of the CPU and the same masks; the same bits twice and after a resume; all finite",
        "whether GPUs may be named in a release",
    ),
    "waits": Stage(
        trainer_steps.waits,
        "plain step 0, update 28 and some ten more that the pretended GPU cannot see",
        "whether the pretended GPU tells the truth",
    ),
    "step": Stage(
        steps.step,
        "784-1024-1024-10, 128 rows: eager 450 to 700 µs, all of it host; the device works 110 to 150; graph 90 to "
        "130; TF32 no gain there, bf16 autocast slower",
        "a captured step if the graph takes at most a third of `lightning`'s first row; TF32 named in the README if at "
        "least twice as fast at 4096, 1024 rows; compile named in the docs if at most 0.8 of eager",
    ),
    "lightning": Stage(
        trainer_steps.lightning,
        "everything 1.3 to 2.0 ms; rows on the host 100 to 150 µs more; the loss read for the bar 20 to 40 more",
        "each part is kept only if it saves more than 3% and three times the noise of the first two rows; masks are "
        "re-applied less often if they cost more than 5%",
    ),
    "update": Stage(
        layers.update,
        "RigL 2 to 4 ms for 1024 × 1024",
        "an update's waits stay if it takes less than five steps",
    ),
    "groups": Stage(
        groups.groups,
        "4096, 2048 rows, bf16, groups of 64: 2.5 times dense compiled at 90%, 4 times at 95%; groups of 16 no faster "
        "than dense at 90%; slower than dense at 1024; the exponential profile at most 1.3 times the uniform one",
        "`auto` takes groups (GROUPS_WIN, accelerator) from the smallest size and sparsity at which every width from "
        "4096 on is faster than masked and dense compiled; a Triton kernel unless 3 times dense at 90% for 4096",
    ),
    "group_updates": Stage(
        groups.group_updates,
        "RigL in storage groups 1.5 times masked at 4096: it computes the dense gradient in blocks",
        "pairs are moved and scored without their connections if an update takes more than five steps",
    ),
    "triton": Stage(
        group_kernels.triton,
        "bf16 at 4096 and 90%, groups of 64: Triton 1.5 times as fast as torch's gather and bmm for outputs and "
        "weights, no faster for inputs, whose products pass through memory twice in either",
        "Triton's kernels become the default for the types and sizes where all three products together are 1.1 times "
        "as fast; the best blocks become theirs",
    ),
    "sparse": Stage(
        layers.sparse,
        "cuSPARSE slower than dense TF32 below 99%, at 4096 and wider",
        "a csr storage on GPUs only if two SpMM and one SDDMM take less than half of three dense TF32 products at 98%",
    ),
    "crowd": Stage(
        crowd,
        "3.5 times the throughput of one run at 4, 5 times at 8, with 16 cores",
        "the recommended `sweep --workers` for one GPU: the largest that still adds 10%",
    ),
}


def main() -> None:
    """Run the stages that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", choices=[[], "one", *STAGES], help=f"of {', '.join(STAGES)}; default all")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds of the whole call")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu")), help="folder of the figures")
    options = parser.parse_args()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for `deterministic`; read at the first product
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here; --device cpu --quick tries the script")
    session = Session(options.device, options.quick, options.budget, options.out)
    with trainer_steps.quiet():
        if options.stages == ["one"]:
            print("STEP", trainer_steps.fit_microseconds(session, *((3, 8) if session.quick else (100, 1100))))
            return
        for name in options.stages or STAGES:
            _run_stage(session, name)
    failed = [row for row in session.rows if "failed" in row]
    print(f"\n{len(session.rows)} figures in {session.folder / 'gpu.jsonl'}, {len(failed)} failures")
    for row in failed:
        print("failed:", row["stage"], row["what"], row["failed"], row["at"])


def _run_stage(session: Session, name: str) -> None:
    stage, session.stage = STAGES[name], name
    if session.seconds_left < 30:
        session.note("left out: the budget is spent")
        return
    print(f"\n{name}: {stage.function.__doc__}\n  predicted: {stage.prediction}\n  decides: {stage.decision}")
    began = time.monotonic()
    with session.tried("stage"):
        stage.function(session)
    session.note("whole stage", seconds=round(time.monotonic() - began))


if __name__ == "__main__":
    main()
