"""A signal is a request to stop; the previous handlers come back."""

import os
import signal
from types import SimpleNamespace

from psn_lightning.callbacks.flags import flags_of
from psn_lightning.checkpoints.signals import StopRequest


class Run(SimpleNamespace):
    """A trainer on one process."""

    __hash__ = object.__hash__


def test_a_signal_is_noted_once_and_then_goes_to_the_previous_handler():
    seen, run, request = [], Run(world_size=1), StopRequest()
    previous = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        request.listen(run)
        assert not request.is_requested(run)
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.is_requested(run)
        assert flags_of(run).stop
        assert seen == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM]
        request.listen(run)
        assert not request.is_requested(run)
        request.stop_listening()
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM] * 2
    finally:
        request.stop_listening()
        signal.signal(signal.SIGTERM, previous)


def test_a_handler_that_another_has_set_meanwhile_stays():
    request, before = StopRequest(), signal.getsignal(signal.SIGTERM)
    request.listen(Run(world_size=1))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    request.stop_listening()
    try:
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
