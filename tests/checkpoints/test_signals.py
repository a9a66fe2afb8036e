"""A signal is a request to stop; the previous handlers come back."""

import os
import signal
from types import SimpleNamespace

from psn_lightning.callbacks.flags import flags_of
from psn_lightning.checkpoints.signals import StopRequest

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Run(SimpleNamespace):
    """A trainer with a number of processes."""

    def __init__(self, world_size):
        super().__init__(world_size=world_size, fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace()))

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
        request.stop_listening(run)
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGTERM] * 2
    finally:
        request.stop_listening(run)
        signal.signal(signal.SIGTERM, previous)


def test_a_handler_that_another_has_set_meanwhile_stays():
    run, request, before = Run(world_size=1), StopRequest(), signal.getsignal(signal.SIGTERM)
    request.listen(run)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    request.stop_listening(run)
    try:
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_with_several_processes_schedulers_may_send_it_twice():
    """Lightning's handler talks to the others at once, while they may be within another exchange."""
    seen, run, request = [], Run(world_size=2), StopRequest()
    previous = {number: signal.signal(number, lambda n, frame: seen.append(n)) for number in SIGNALS}
    try:
        request.listen(run)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert flags_of(run).stop
        assert seen == []
        os.kill(os.getpid(), signal.SIGINT)  # a person's second wish to stop
        assert seen == [signal.SIGINT]
        request.stop_listening(run)
        os.kill(os.getpid(), signal.SIGTERM)
        assert seen == [signal.SIGINT, signal.SIGTERM]
    finally:
        request.stop_listening(run)
        for number, handler in previous.items():
            signal.signal(number, handler)
