"""The courier is patient with a store that takes something, and with no other."""

import threading
import time

import pytest

from psn_lightning.tracking.courier import Courier
from psn_lightning.tracking.spool import Spool, SpooledRun


class Slow:
    """A delivery that takes its time; or never says that anything was there to be done."""

    def __init__(self, spool, seconds, idle=False):
        self._spool, self._seconds, self._idle = spool, seconds, idle
        self.tries = 0

    def next(self):
        self.tries += 1
        time.sleep(self._seconds)
        if self._idle:
            return False
        for _, position in self._spool.pending():
            self._spool.mark(position)
            return True
        return False


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "spool" / "r", SpooledRun("u", "e", "r"))
    spool.append({"do": "tags", "tags": {}})
    return spool


def there():
    """A store that answers."""


def away():
    raise ConnectionError("nobody is there")


def test_a_large_file_may_take_longer_than_its_patience(spool):
    assert Courier(spool, Slow(spool, 1.0), there, "s").close(patience=0.2)
    assert spool.empty


def test_but_not_with_a_store_that_does_not_answer(spool):
    courier = Courier(spool, Slow(spool, 2.0), away, "s")
    before = time.monotonic()
    assert not courier.close(patience=0.2)
    assert time.monotonic() - before < 1.5
    assert courier.reason == "nobody is there"


def test_a_delivery_that_does_nothing_is_no_progress(spool):
    """It would be asked for ever, and the run would not end."""
    delivery = Slow(spool, 0, idle=True)
    courier = Courier(spool, delivery, away, "s")
    courier.wake()
    time.sleep(0.3)
    assert delivery.tries < 5
    assert not courier.close(patience=0.2)


def test_it_ends_with_its_run(spool):
    before = threading.active_count()
    for _ in range(3):
        Courier(spool, Slow(spool, 0), there, "s").close(patience=5)
    assert threading.active_count() == before
