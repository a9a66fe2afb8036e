"""The progress bar is drawn now and then, and at the end."""

from types import SimpleNamespace

from lightning.pytorch.callbacks import RichProgressBar

from psn_lightning.callbacks import Progress


def test_it_is_drawn_now_and_then_and_after_the_last_batch(monkeypatch):
    drawn, clock = [], [100.0]
    monkeypatch.setattr(RichProgressBar, "on_train_batch_end", lambda self, *arguments: drawn.append(arguments[-1]))
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    bar = Progress()
    for batch_idx in range(101):
        clock[0] += 0.02
        bar.on_train_batch_end(SimpleNamespace(is_last_batch=batch_idx == 100), None, None, None, batch_idx)
    assert drawn == [*range(0, 100, 13), 100]
