"""Which process is alive, seen from another one."""

import json
import multiprocessing
from contextlib import contextmanager

import pytest

from psn_lightning.tracking.processes import identity, is_alive_elsewhere, is_dead, parse_identity


def introduce_itself(pipe):
    pipe.send(identity())
    pipe.recv()


@contextmanager
def other_process():
    """Identity of a process that lives in this block."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=introduce_itself, args=(there,))
    process.start()
    yield here.recv()
    here.send("end")
    process.join()


@pytest.fixture(scope="module")
def ended():
    """A process that has ended."""
    with other_process() as told:
        pass
    return told


def test_a_process_that_has_ended_is_dead(ended):
    mine = identity()
    assert not is_dead(mine)
    assert is_dead(ended)
    assert is_dead({**mine, "started": mine["started"] - 100})  # another process has got its number since
    assert not is_dead({**ended, "host": "elsewhere"})  # cannot be known


def test_a_live_process_is_another_one_that_has_not_ended():
    with other_process() as other:
        assert is_alive_elsewhere(json.dumps(other))
        assert not is_alive_elsewhere(json.dumps({**other, "host": "elsewhere"}))
    assert not is_alive_elsewhere(json.dumps(other))
    assert not is_alive_elsewhere(json.dumps(identity()))
    assert not is_alive_elsewhere("")


def test_an_identity_is_read_from_its_json():
    assert parse_identity(json.dumps(identity())) == identity()


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '{"host": "h", "pid": "x", "started": 1}', "null"])
def test_any_other_text_is_none(text):
    assert parse_identity(text) is None
