"""Time to build the topology of the 784–1024–1024–10 network at 90%."""

import pytest

from psn_lightning.topology import Bernoulli, Lognormal, Topology


@pytest.mark.parametrize("family", [Bernoulli(), Lognormal(2.0)], ids=repr)
@pytest.mark.parametrize("spreading", ["even", "random"])
def test_build(benchmark, family, spreading) -> None:
    benchmark.extra_info.update(part="topology", kind=f"{family!r}, {spreading}")
    benchmark(Topology(family, 0.9).connect, [784, 1024, 1024, 10], spreading, 42)
