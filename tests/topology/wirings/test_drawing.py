import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from psn_lightning.topology.wirings import drawing
from tests.topology.drawing import quick, sizes


@quick
@given(n_in=sizes(high=200), n_out=sizes(high=50), data=st.data())
def test_the_nearest_inputs_are_a_run_and_nearer_than_all_others(n_in, n_out, data):
    fan_in = np.array(data.draw(st.lists(st.integers(1, n_in), min_size=n_out, max_size=n_out)))
    connectivity = drawing.nearest_inputs(n_in, fan_in)
    assert np.array_equal(connectivity.fan_in, fan_in)
    distance, mask = drawing.ring_distance(np.arange(n_out), n_in, n_out), connectivity.mask()
    for near, row in zip(distance, mask, strict=True):
        assert row.all() or near[row].max() <= near[~row].min() + 1e-9
        assert (np.diff(row[np.append(np.arange(n_in), 0)].astype(int)) == 1).sum() <= 1


def test_distances_are_those_on_a_ring():
    distance = drawing.ring_distance(np.arange(3), 6, 3)  # centres at 0.5, 2.5 and 4.5
    assert distance[0].tolist() == [0.5, 0.5, 1.5, 2.5, 2.5, 1.5]
    assert distance[2].tolist() == [1.5, 2.5, 2.5, 1.5, 0.5, 0.5]


def test_memory_does_not_decide_what_is_drawn(monkeypatch):
    fan_in = np.arange(1, 21)

    def draw():
        return drawing.draw_by_weight(30, fan_in, lambda j: np.zeros((len(j), 30)), np.random.default_rng(0))

    at_once = draw()
    monkeypatch.setattr(drawing, "_BLOCK", 90)
    assert draw() == at_once
