import os
import sys

from psn_lightning.sweeps.logs import read_message, redirect_output, trial_log


def test_a_log_is_named_after_study_and_ticket():
    assert str(trial_log("mine", 7)) == "mlruns/studies/mine/trial-007.log"
    assert str(trial_log("mine/best7", 1000)) == "mlruns/studies/mine/best7/trial-1000.log"


def test_everything_that_a_process_prints_is_appended(tmp_path):
    log = tmp_path / "folder" / "trial-000.log"
    for _ in range(2):
        child = os.fork()
        if child == 0:
            try:
                sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # pytest has its own
                redirect_output(log)
                sys.stdout.write("from Python\n")
                sys.stdout.flush()
                os.write(1, b"from below Python\n")
                os.write(2, b"an error from below\n")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    assert log.read_text().splitlines() == ["from Python", "from below Python", "an error from below"] * 2


def test_the_last_message_is_found_with_its_second_line(tmp_path):
    log = tmp_path / "trial-000.log"
    assert read_message(log) is None
    log.write_text("Epoch 1\n")
    assert read_message(log) is None
    log.write_text("psn-train: old\nEpoch 1\npsn-train: lr -1 must be positive\n  and more\nsomething else\n")
    assert read_message(log) == "lr -1 must be positive\n  and more"
