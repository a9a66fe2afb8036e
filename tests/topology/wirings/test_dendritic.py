"""Runs of inputs against a direct transcription of the authors' steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from psn_lightning.errors import SettingError
from psn_lightning.topology import Dendritic, LayerBudget, Uniform
from psn_lightning.topology.wirings.drawing import nearest_inputs


def window_of(j, n_in, n_out, fan_in, width):
    """First input and size of the window of neuron j (step 4)."""
    centre = round(j * n_in / n_out)
    size = min(max(round(fan_in + width * (n_in - fan_in)), fan_in), n_in)
    return centre, centre - size // 2, size


def blocks_of(j, n_in, n_out, fan_in, dendrites, width):
    """Inputs of each dendrite of neuron j, all equally long (steps 4 to 6)."""
    centre, start, size = window_of(j, n_in, n_out, fan_in, width)
    length = fan_in // dendrites
    blocks = []
    for m in range(dendrites):
        middle = (1 - width) * centre + width * (start + (m + 0.5) * size / dendrites)
        first = int(np.floor(middle + 0.5)) - length // 2
        blocks.append({(first + step) % n_in for step in range(length)})
    return blocks


def runs(row):
    """Lengths of the runs on the ring."""
    starts = np.flatnonzero(row & ~np.roll(row, 1))
    ends = np.flatnonzero(row & ~np.roll(row, -1))
    return sorted((ends - starts).tolist() if ends[0] >= starts[0] else (np.roll(ends, -1) - starts).tolist())


WIDTHS = [0.5, 0.6180339, 0.7071067, 0.8660254, 1.0]
"""Widths by which no middle of a block is so near to a half that code and steps round it differently."""


@settings(max_examples=30, deadline=None)
@given(
    n_in=st.integers(40, 120), n_out=st.integers(1, 60), dendrites=st.integers(1, 4), length=st.integers(1, 4),
    width=st.sampled_from(WIDTHS), seed=st.integers(0, 99),
)  # fmt: skip
def test_dendrites_lie_where_the_steps_put_them(n_in, n_out, dendrites, length, width, seed):
    fan_in = dendrites * length
    budget = LayerBudget(n_in, n_out, 1 - fan_in / n_in)
    mask = Dendritic(dendrites, width).connect(budget, np.random.default_rng(seed)).mask()
    for j, row in enumerate(mask):
        blocks = blocks_of(j, n_in, n_out, fan_in, dendrites, width)
        inputs, expected = set(np.flatnonzero(row).tolist()), set.union(*blocks)
        _, start, size = window_of(j, n_in, n_out, fan_in, width)
        window = {(start + step) % n_in for step in range(size)}
        # Rounding may put the end of a block one input outside; it is moved in.
        assert len(expected & window - inputs) <= dendrites
        if expected <= window:
            assert expected <= inputs
        if len(expected) == fan_in and expected <= window:
            assert inputs == expected
        assert inputs <= window


def test_there_are_as_many_runs_as_dendrites_and_they_differ_by_one():
    mask = Dendritic(5).connect(LayerBudget(784, 300, 1 - 23 / 784), np.random.default_rng(0)).mask()
    lengths = [[length + 1 for length in runs(row)] for row in mask if not (row[0] and row[-1])]
    assert len(lengths) > 250
    assert all(found == [4, 4, 5, 5, 5] for found in lengths)


def test_one_dendrite_without_width_is_the_band_along_the_diagonal():
    budget = LayerBudget(90, 60, 0.9)
    mask = Dendritic(1, 0.0).connect(budget, np.random.default_rng(0)).mask()
    band = nearest_inputs(90, np.full(60, 9)).mask()
    assert (mask & band).sum() / band.sum() > 0.8  # the centres differ by half a step
    assert all(np.array_equal(np.roll(mask[0], 3 * (j // 2)), mask[j]) for j in range(0, 60, 2))


def test_as_many_dendrites_as_inputs_are_spread_evenly():
    mask = Dendritic(100, 1.0).connect(LayerBudget(120, 30, 0.9), np.random.default_rng(0)).mask()
    for row in mask:
        inputs = np.flatnonzero(row)
        assert set(np.diff(inputs).tolist()) == {10}


@pytest.mark.parametrize(("synapses", "ends_win"), [("spatial_gaussian", False), ("spatial_inversegaussian", True)])
def test_spatial_synapses_favour_the_middle_or_the_ends(synapses, ends_win):
    budget = LayerBudget(1000, 200, 0.96, min_fan_in=1)
    mask = Dendritic(5, 1.0, Uniform(), synapses).connect(budget, np.random.default_rng(0)).mask()
    place = np.array([round(j * 1000 / 200) for j in range(200)])
    apart = np.abs((np.arange(1000) - place[:, None] + 500) % 1000 - 500)
    assert ((apart[mask] > 300).mean() > 0.6) == ends_win
    assert ((apart[mask] < 100).mean() > 0.6) == (not ends_win)


@pytest.mark.parametrize("wrong", [{"dendrites": 0}, {"width": -0.1}, {"width": 1.1}, {"synapses": "bounded"}])
def test_arguments_out_of_range(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Dendritic(**wrong)
