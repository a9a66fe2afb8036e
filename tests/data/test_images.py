"""The real files where they are, and files of the same format made small where content matters."""

import gzip
import http.server
import struct
import threading
from functools import partial
from hashlib import md5

import numpy as np
import pytest
from torchvision import datasets

from psn_lightning.data import DATASETS, MNIST, EMNISTBalanced
from psn_lightning.errors import SettingError
from tests.conftest import require


def write_idx(folder, names, n=(30, 10), classes=10, gz=False):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in zip(names, (n[0], n[0], n[1], n[1]), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        values = rng.integers(0, 256 if "images" in name else classes, shape).astype(np.uint8)
        content = struct.pack(">HBB", 0, 8, len(shape)) + struct.pack(f">{len(shape)}I", *shape) + values.tobytes()
        path = folder / (name + ".gz" * gz)
        path.write_bytes(gzip.compress(content, mtime=0) if gz else content)


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


def test_labels_out_of_range_and_swapped_files(tmp_path):
    write_idx(tmp_path / "a" / "MNIST" / "raw", MNIST.names, classes=99)
    with pytest.raises(SettingError, match="labels outside 0 … 9"):
        MNIST(data_dir=str(tmp_path / "a"), download=False).setup()
    raw = tmp_path / "b" / "MNIST" / "raw"
    write_idx(raw, MNIST.names)
    for old, new in ((0, "held"), (1, MNIST.names[0]), ("held", MNIST.names[1])):
        (raw / (MNIST.names[old] if isinstance(old, int) else old)).rename(raw / new)
    with pytest.raises(SettingError, match="swapped"):
        MNIST(data_dir=str(tmp_path / "b"), download=False).setup()


def test_missing_and_not_to_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.delenv("PSN_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SettingError, match=r"MNIST is not in .*set PSN_DATA_DIR"):
        MNIST(download=False).prepare_data()


def test_download_over_http_with_checksum(tmp_path, monkeypatch):
    """A real server in place of the mirrors; torchvision's own client, checksum and unpacking."""
    write_idx(tmp_path / "mirror", MNIST.names, gz=True)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "mirror")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        files = sorted((tmp_path / "mirror").iterdir())
        resources = [(f.name, md5(f.read_bytes()).hexdigest()) for f in files]
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_address[1]}/"])
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
        monkeypatch.delenv("PSN_DATA_DIR", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        data = MNIST()
        data.prepare_data()
        data.setup()
        assert data.locate().folder == tmp_path / "home/.cache/psn_lightning/MNIST/raw"
        assert [p.name for p in data.locate().folder.iterdir() if p.name.startswith(".")] == []

        monkeypatch.setattr(datasets.MNIST, "resources", [(name, "0" * 32) for name, _ in resources])
        monkeypatch.setenv("HOME", str(tmp_path / "other"))
        with pytest.raises(SettingError, match="could not be downloaded"):
            MNIST().prepare_data()
        assert list((tmp_path / "other/.cache/psn_lightning/MNIST/raw").iterdir()) == []
    finally:
        server.shutdown()
