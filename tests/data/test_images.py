"""The real files where they are, and files of the same format made small where content matters."""

import io
import shutil
import subprocess
import zipfile
from hashlib import md5

import numpy as np
import pytest
from torchvision import datasets

from psn_lightning.data import DATASETS, MNIST, EMNISTBalanced
from psn_lightning.data.digests import SUMS
from psn_lightning.errors import SettingError
from tests.conftest import require
from tests.data.making import write_idx


@pytest.mark.parametrize(("name", "mean", "std"), [("mnist", 0.1307, 0.3081), ("fashion", 0.2860, 0.3530)])
def test_real_sets_are_complete_with_known_statistics(name, mean, std):
    require(name)
    data = DATASETS[name](download=False)
    rows = data.load(data.locate())
    assert (len(rows.train_y), len(rows.test_y)) == (60_000, 10_000)
    found_mean, found_std = data.normalization(rows.train_x)
    assert found_mean.item() == pytest.approx(mean, abs=1e-4)
    assert found_std.item() == pytest.approx(std, abs=1e-4)
    data.setup()
    assert data.description()["dataset.completeness"] == "complete"


def test_real_emnist_is_upright_and_named_honestly():
    require("emnist")
    data = EMNISTBalanced(download=False)
    data.setup()
    found = data.description()
    if found["dataset.completeness"] == "subset":
        assert found["dataset.name"].startswith("EMNIST-47 subset")
    # Letters and digits are taller than wide: upright images spread over more rows than columns.
    images = (data._sets["test"].x > 0).view(-1, 28, 28)
    assert images.any(dim=2).sum(dim=1).float().mean() > images.any(dim=1).sum(dim=1).float().mean()


def test_emnist_is_stored_transposed(tmp_path):
    write_idx(tmp_path / "EMNIST" / "raw", EMNISTBalanced.names, classes=47)
    data = EMNISTBalanced(data_dir=str(tmp_path), download=False)
    rows = data.load(data.locate())
    raw = np.frombuffer((tmp_path / "EMNIST/raw" / data.names[0]).read_bytes()[16:], np.uint8).reshape(30, 28, 28)
    assert np.allclose(rows.train_x.view(30, 28, 28).numpy() * 255, raw.transpose(0, 2, 1), atol=1e-3)


def test_sizes_are_read_never_assumed(tmp_path):
    write_idx(tmp_path / "MNIST" / "raw", MNIST.names, gz=True)
    data = MNIST(data_dir=str(tmp_path), download=False)
    data.setup()
    found = data.description()
    assert found["dataset.rows"] == "train 30, val 0, test 10"
    assert found["dataset.name"] == "MNIST subset (40 rows)"


def test_missing_and_not_to_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.delenv("PSN_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SettingError, match=r"MNIST is not in .*set PSN_DATA_DIR"):
        MNIST(download=False).prepare_data()


def test_download_over_http_with_checksum(tmp_path, monkeypatch, serve):
    """A real server in place of the mirrors; torchvision's own client, checksum and unpacking."""
    write_idx(tmp_path / "mirror", MNIST.names, gz=True)
    resources = [(f.name, md5(f.read_bytes()).hexdigest()) for f in sorted((tmp_path / "mirror").iterdir())]
    monkeypatch.setattr(datasets.MNIST, "mirrors", [serve(tmp_path / "mirror")[0]])
    monkeypatch.setattr(datasets.MNIST, "resources", resources)
    data = MNIST()
    data.prepare_data()
    data.setup()
    folder = tmp_path / "home/.cache/psn_lightning/MNIST/raw"
    assert data.locate().folder == folder
    assert sorted(p.name for p in folder.iterdir()) == sorted([".lock", SUMS, *MNIST.names])
    assert subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=folder, check=False).returncode == 0

    shutil.rmtree(folder)
    monkeypatch.setattr(datasets.MNIST, "resources", [(name, "0" * 32) for name, _ in resources])
    with pytest.raises(SettingError, match="could not be downloaded"):
        MNIST(data_dir=str(tmp_path / "other"), download=True).prepare_data()
    assert [p.name for p in (tmp_path / "other/MNIST/raw").iterdir()] == [".lock"]


def test_members_of_an_archive_cannot_leave_the_scratch_folder(tmp_path, monkeypatch, serve):
    write_idx(tmp_path / "files", EMNISTBalanced.names, classes=47, gz=True)
    hostile = ("../../evil", "../../../evil", "gzip/../../../../evil", str(tmp_path / "evil"), "gzip/evil")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in (tmp_path / "files").iterdir():
            archive.write(path, f"gzip/{path.name}")
        for name in hostile:
            archive.writestr(name, "evil")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "gzip.zip").write_bytes(content.getvalue())
    monkeypatch.setattr(datasets.EMNIST, "url", serve(tmp_path / "mirror")[0] + "gzip.zip")
    monkeypatch.setattr(datasets.EMNIST, "md5", md5(content.getvalue()).hexdigest())
    data = EMNISTBalanced(data_dir=str(tmp_path / "target"))
    data.prepare_data()
    data.setup()
    assert list(tmp_path.rglob("*evil*")) == []
    assert sorted(p.name for p in data.locate().folder.iterdir()) == sorted([".lock", SUMS, *data.names])
