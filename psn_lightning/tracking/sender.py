"""Sends an outbox to its server, in a thread: a server that is slow or away neither slows nor stops the training."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from mlflow.exceptions import MlflowException

from psn_lightning.errors import in_one_line
from psn_lightning.tracking.causes import root_cause
from psn_lightning.tracking.outbox import Outbox
from psn_lightning.tracking.sink import Sink
from psn_lightning.tracking.store import Store
from psn_lightning.tracking.writer import OFFLINE_TAG, Kind, RunWriter, ensure_experiment, find_offline_run

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0  # seconds between attempts; each pause is twice the one before
_PATIENCE_SECONDS = 60.0  # without progress, at the end of a run
_SHORT_PATIENCE_SECONDS = 5.0  # likewise, if that end was a moment ago


class Delivery:
    """Sends the operations of an outbox, one after the other.

    Args:
        store: Store to send to.
        outbox: Outbox to empty.
    """

    def __init__(self, store: Store, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._writer: RunWriter | None = None

    def send_next(self) -> bool:
        """Send the oldest operation; one that the store refuses is set aside, so that the others can follow.

        Returns:
            Whether there was one.

        Raises:
            MlflowException: If the store is away; likewise SQLAlchemyError and OSError. The operation stays queued.
        """
        operation = self._outbox.first()
        if operation is None:
            return False
        try:
            if self._writer is None:
                self._writer = RunWriter(self._store.client, self.ensure_run())
            self._writer.write(operation.kind, operation.content)
        except MlflowException as error:
            if not self._store.has_refused(error):
                raise
            reason = in_one_line(error)
            self._outbox.refuse(operation, reason)
            rank_zero_warn(
                f"MLflow at {self._store.shown} refused {operation.kind} of the run, kept in {self._outbox.path}; the "
                f"rest is sent. Reason: {reason}"
            )
        else:
            self._outbox.remove(operation)
        return True

    def ensure_run(self) -> str:
        """Id of the run; one that began while the store was away is created."""
        run = self._outbox.run
        if run.run_id is not None:
            return run.run_id
        experiment, offline_id = ensure_experiment(self._store, run.experiment), str(run.offline_id)
        found = find_offline_run(self._store.client, experiment, offline_id)  # an earlier answer may have been lost
        if found is None:
            tags = {**run.tags, OFFLINE_TAG: offline_id}
            found = self._store.client.create_run(experiment, run.started, tags, run.name)
        self._outbox.set_run_id(found.info.run_id)
        return str(found.info.run_id)


class Sender(Sink):
    """Queues a run's operations in an outbox, which a thread sends.

    Args:
        store: Store to send to.
        outbox: Outbox of the run.
    """

    def __init__(self, store: Store, outbox: Outbox) -> None:
        self._store = store
        self._outbox = outbox
        self._delivery = Delivery(store, outbox)
        self._progress = time.monotonic()
        self._wake, self._closing, self._given_up = threading.Event(), threading.Event(), threading.Event()
        self._reason: str | None = None  # why the last attempt failed; None after a success
        self._thread = threading.Thread(target=self._send, name="mlflow-sender", daemon=True)
        self._thread.start()

    def put(self, kind: Kind, **content: Any) -> None:
        """Queue an operation."""
        self._outbox.put(kind, **content)
        self._wake.set()

    def put_file(self, path: Path, folder: Path) -> None:
        """Queue a copy of a file."""
        self._outbox.put_file(path, folder)
        self._wake.set()

    def put_model(self, archive: Path, **content: Any) -> None:
        """Queue a copy of a packed model."""
        self._outbox.put_model(archive, **content)
        self._wake.set()

    def close(self, was_away: bool = False) -> None:
        """Wait until the store has everything: as long as it answers, else a minute; seconds if it was away before."""
        patience = _SHORT_PATIENCE_SECONDS if was_away else _PATIENCE_SECONDS
        self._progress = time.monotonic()
        self._closing.set()
        self._wake.set()
        while self._thread.is_alive() and (time.monotonic() - self._progress < patience or self._is_taking()):
            self._thread.join(0.05)
        self._given_up.set()
        left = ", ".join(f"{count} {kind}" for kind, count in self._outbox.left().items())
        if left:
            rank_zero_warn(
                f"MLflow at {self._store.shown} did not receive {left} ({self._reason}): they are queued in "
                f"{self._outbox.path}; send them with psn-train sync"
            )
        self._outbox.close()

    def _is_taking(self) -> bool:
        """Whether an operation, of a large file perhaps, is under way to a store that answers."""
        if self._reason is not None:
            return False
        try:
            self._store.check()
        except Exception as error:
            self._reason = in_one_line(root_cause(error))
            return False
        self._progress = time.monotonic()
        return True

    def _send(self) -> None:
        """Send what is queued until the run ends; while the store is away, retry."""
        pause = _FIRST_PAUSE
        while not self._given_up.is_set():
            try:
                if self._reason is not None:
                    self._store.check()
                is_last = self._closing.is_set()
                if self._delivery.send_next():
                    self._progress, pause = time.monotonic(), _FIRST_PAUSE
                    self._report(None)
                elif is_last:
                    return
                else:
                    self._wake.wait()
                    self._wake.clear()
            except Exception as error:  # whatever fails, training continues and nothing is lost
                self._report(in_one_line(root_cause(error)))
                if self._closing.wait(pause):
                    time.sleep(_FIRST_PAUSE)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _report(self, reason: str | None) -> None:
        """Say once that the store went away, or is back."""
        if reason is not None and self._reason is None:
            rank_zero_info(
                f"MLflow at {self._store.shown} is unavailable ({reason}); training continues, metrics are queued in "
                f"{self._outbox.path} and sent when it is back"
            )
        elif reason is None and self._reason is not None:
            rank_zero_info(f"MLflow at {self._store.shown} is back; queued metrics are sent")
        self._reason = reason
