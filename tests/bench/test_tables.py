"""Tables and figure of given measurements."""

import pytest

from psn_lightning.bench.figure import draw_figures
from psn_lightning.bench.machine import describe_machine
from psn_lightning.bench.tables import count_flops, write_page

MACHINE = {
    "date": "2026-11-30",
    "processor": "a processor",
    "threads": 2,
    "vector extensions": "AVX512",
    "python": "3.11",
    "versions": {"torch": "2"},
}
ROWS = [
    {"part": "roofline", "kind": "dense product", "median": 0.1, "rate": 150e9},
    {"part": "roofline", "kind": "copy", "median": 0.1, "rate": 20e9},
    {"part": "layer", "kind": "csr", "width": 1000, "batch": 128, "sparsity": 0.9, "median": 1e-3},
    {"part": "layer", "kind": "dense", "width": 1000, "batch": 128, "sparsity": 0.9, "median": 5e-3},
    {"part": "step", "kind": "csr", "sparsity": 0.9, "median": 2e-3},
    {"part": "step", "kind": "masked", "sparsity": 0.9, "median": 12e-3},
    {"part": "step", "kind": "dense", "sparsity": 0.0, "median": 10e-3},
    {"part": "update", "kind": "csr", "sparsity": 0.9, "what": "step", "median": 2e-3},
    {"part": "update", "kind": "csr", "sparsity": 0.9, "what": "update and step", "median": 12e-3},
    {"part": "fit", "data": "FashionMNIST", "how": "fit", "kind": "csr", "sparsity": 0.9, "median": 1.5},
    {"part": "fit", "data": "FashionMNIST", "how": "loop", "kind": "dense", "sparsity": 0.0, "median": 6.0},
    {"part": "scale", "kind": "csr", "width": 512, "connections": 1000, "bytes": 2**30, "median": 1e-3},
    {"part": "scale", "kind": "csr", "width": 1024, "connections": 2000, "bytes": 2**30, "median": 2e-3},
]


def cells(page, title):
    """Rows of a table of the page, without its head."""
    lines = page.partition(title)[2].partition("\n\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:] if line.startswith("|")]


def test_ratios_are_to_csr():
    page = write_page(MACHINE, ROWS)
    assert cells(page, "One layer") == [["1000", "128", "90.0%", "1.000", "77", "5.00 (5.0)", *[""] * 3]]
    assert cells(page, "A training step of 784–1024") == [["90%", "2.00", "5.0", "6.0"]]
    assert cells(page, "A RigL update") == [["csr", "90%", "2.00", "10.00", "5.0"]]
    assert [row[-1] for row in cells(page, "Seconds per epoch")] == ["1.00", "4.00"]
    assert [row[3] for row in cells(page, "A training step of 784–width")] == ["1000.0", "1000.0"]


def test_the_roofline_states_the_share_of_the_bound():
    assert count_flops(ROWS[2]) == pytest.approx(76.8e6)
    assert "(51%)" in write_page(MACHINE, ROWS)  # 77 of 150 GFLOP/s


def test_a_part_that_was_not_measured_has_no_table(tmp_path):
    page = write_page(describe_machine(), ROWS[4:7])
    assert "One layer" not in page
    assert "Roofline" not in page
    assert [path.name for path in draw_figures(tmp_path, MACHINE, ROWS[-2:])] == ["bench_scale.png"]
    names = {path.name for path in draw_figures(tmp_path, MACHINE, ROWS)}
    assert names == {path.name for path in tmp_path.iterdir()}
    assert len(names) == 3
