"""A disk that is full when a checkpoint is written: a clear error, and the one before is whole."""

import subprocess

import pytest

from psn_lightning.checkpoints.durable import find_damage
from tests.faults.running import (
    FIT,
    assert_same_end,
    checkpoints,
    finished,
    history,
    start,
    step_of,
    store_of,
    wait_until,
)

LONG = [*FIT, "--trainer.max_epochs=60", "--checkpoints.every_n_steps=9", "--model.hidden=[512,512]"]


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a small disk at a folder."""
    mounted = []

    def mount(folder, megabytes):
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finished(start(folder, *LONG))
    return folder


def fill(folder):
    """Leave no room at all."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096) == 4096:
                pass
        except OSError:
            return folder / "filler"
    return folder / "filler"


@pytest.mark.parametrize("everything", [False, True])
def test_full_at_a_checkpoint(everything, small_disk, undisturbed, tmp_path):
    """Either the checkpoints' folder alone is on the full disk, or the database and what is logged as well."""
    disk = small_disk(tmp_path if everything else tmp_path / "mlruns" / "1", 60)
    process = start(tmp_path, *LONG)
    wait_until(lambda: step_of(tmp_path) > 30, process)
    filler = fill(disk)
    printed = finished(process, code=2)
    message = printed[printed.index("psn-train: ") :]
    assert "cannot be written" in message
    assert "No space left on device" in message
    assert "last checkpoint" in message
    assert len(message.splitlines()) <= 3
    for path in checkpoints(tmp_path, "*"):
        assert find_damage(path) is None, path
    filler.unlink()
    finished(start(tmp_path, *LONG, "--ckpt_path=last"))
    assert_same_end(undisturbed, tmp_path)
    metrics, run = history(store_of(tmp_path))
    assert metrics == history(store_of(undisturbed))[0]
    assert run.info.status == "FINISHED"
