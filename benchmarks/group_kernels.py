"""Registers and shared memory of the Triton kernels for groups: ``python -m benchmarks.group_kernels``.

Kernels are compiled for GPUs that need not be there.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from psn_lightning.kernels import triton_groups
from psn_lightning.kernels.triton_groups import BLOCKS, Blocks, choose_side

KERNELS = ("_solve_y", "_solve_w", "_multiply_pairs", "_sum_by_input")
_NUMBERS = ("w", "x", "y", "products")


class Compiled(NamedTuple):
    """A kernel that was compiled for a GPU."""

    kernel: Any
    """Triton's compiled kernel."""
    capability: int
    """Compute capability of the GPU: 80 for the A100, 90 for the H100."""

    @property
    def shared(self) -> int:
        """Bytes of shared memory of a program."""
        return int(self.kernel.metadata.shared)

    @property
    def uses_matrix_units(self) -> bool:
        """Whether the kernel multiplies with matrix units."""
        return "mma" in self.kernel.asm["ptx"]

    def count_registers(self) -> tuple[int, int]:
        """Count the registers of a thread, and the bytes that did not fit into them, as ptxas states them."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "kernel.ptx"
            path.write_text(self.kernel.asm["ptx"])
            arch = f"sm_{self.capability}{'a' * (self.capability >= 90)}"
            command = [triton.knobs.nvidia.ptxas.path, "-v", f"-arch={arch}", str(path), "-o", f"{folder}/out"]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        return int(re.findall(r"Used (\d+) registers", told)[0]), int(re.findall(r"(\d+) bytes spill stores", told)[0])


def compile_for(name: str, capability: int, dtype: str, size: int, blocks: Blocks = BLOCKS) -> Compiled:
    """Compile a kernel for a GPU that need not be there.

    Args:
        name: One of :data:`KERNELS`.
        capability: Compute capability.
        dtype: Triton's name of the number type: bf16, fp16 or fp32.
        size: Neurons of a group.
        blocks: Sides of the blocks.
    """
    kernel = getattr(triton_groups, name)
    side = choose_side(size, 4 if dtype == "fp32" else 2)
    given = {"SIZE": size, "SIDE": side, "PAIRS": blocks.pairs, "ROWS": blocks.rows}
    given |= {"PRECISION": "ieee", "SUMMED": 8}
    constants = {key: value for key, value in given.items() if key in kernel.arg_names}
    kinds = dict.fromkeys(kernel.arg_names, "*i32") | dict.fromkeys(_NUMBERS, f"*{dtype}") | {"n_rows": "i32"}
    signature = {key: "constexpr" if key in constants else kinds[key] for key in kernel.arg_names}
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(key),): v for key, v in constants.items()})
    options = {"num_warps": blocks.warps, "num_stages": blocks.stages}
    return Compiled(triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options), capability)


def main() -> None:
    """Print a table of all kernels."""
    sys.stdout.write(
        "| kernel | GPU | type | group | registers | spilled bytes | shared memory, KiB | matrix units |\n"
    )
    sys.stdout.write("|---|---|---|---|---|---|---|---|\n")
    for name, capability, dtype, size in itertools.product(KERNELS, (80, 90), ("bf16", "fp32"), (16, 64, 128)):
        found = compile_for(name, capability, dtype, size)
        registers, spilled = found.count_registers()
        units = "yes" if found.uses_matrix_units else "no"
        row = (name, f"sm_{capability}", dtype, size, registers, spilled, f"{found.shared / 1024:.1f}", units)
        sys.stdout.write(f"| {' | '.join(map(str, row))} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
