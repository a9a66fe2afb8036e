import io
import json
import subprocess
import sys
import zipfile
from hashlib import md5

import numpy as np
import pytest

from psn_lightning.data import DATASETS
from psn_lightning.data.catalogue import CATALOGUE, EMNISTBalancedFiles, ForestCoverFiles, MNISTFiles
from tests.conftest import require
from tests.data.making import covertype_lines, write_covertype, write_idx


def test_every_data_module_has_the_files_of_the_catalogue():
    assert list(DATASETS) == list(CATALOGUE)
    assert all(issubclass(DATASETS[name], files) for name, files in CATALOGUE.items())


def test_the_catalogue_needs_neither_torch_nor_lightning():
    code = """
import json, sys
from psn_lightning.data.catalogue import CATALOGUE
files = CATALOGUE["digits"]()
files.read(files.locate())
print(json.dumps([name for name in ("torch", "lightning", "torchvision", "sklearn") if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("name", CATALOGUE)
def test_addresses_and_checksums_belong_to_the_files(name):
    files = CATALOGUE[name]
    assert bool(files.mirrors) == bool(files.registry)
    assert all(url.startswith("http") for url in files.mirrors)
    assert all(checksum.startswith(("md5:", "sha256:")) for checksum in files.registry.values())
    if name != "emnist":  # an archive
        assert {file.removesuffix(".gz") for file in files.registry} <= {n.removesuffix(".gz") for n in files.names}


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_the_complete_sets_are_the_published_ones(name):
    require(name)
    files = CATALOGUE[name]()
    assert files.locate().digests()[1] == files.official_digests


def test_training_and_test_images_are_read_in_order(tmp_path):
    write_idx(tmp_path / MNISTFiles.folder, MNISTFiles.names, gz=True)
    files = MNISTFiles(str(tmp_path))
    (train_x, train_y), (test_x, test_y) = files.read(files.locate())
    assert (train_x.shape, test_x.shape) == ((30, 28, 28), (10, 28, 28))
    assert (len(train_y), len(test_y)) == (30, 10)


def test_emnist_is_stored_transposed(tmp_path):
    write_idx(tmp_path / EMNISTBalancedFiles.folder, EMNISTBalancedFiles.names, classes=47)
    files = EMNISTBalancedFiles(str(tmp_path))
    raw = np.frombuffer(files.locate().files[0].read_bytes()[16:], np.uint8).reshape(30, 28, 28)
    assert np.array_equal(files.read(files.locate())[0][0], raw.transpose(0, 2, 1))


def test_the_labels_of_covertype_start_at_zero(tmp_path):
    write_covertype(tmp_path / "covertype", covertype_lines())
    files = ForestCoverFiles(str(tmp_path))
    ((features, labels),) = files.read(files.locate())
    assert features.shape == (200, 54)
    assert set(labels.tolist()) == set(range(7))


def test_members_of_an_archive_cannot_leave_the_scratch_folder(tmp_path, monkeypatch, serve):
    names = EMNISTBalancedFiles.names
    write_idx(tmp_path / "files", names, classes=47, gz=True)
    hostile = ("../../evil", "../../../evil", "gzip/../../../../evil", str(tmp_path / "evil"), "gzip/evil")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in (tmp_path / "files").iterdir():
            archive.write(path, f"gzip/{path.name}")
        for name in hostile:
            archive.writestr(name, "evil")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "gzip.zip").write_bytes(content.getvalue())
    monkeypatch.setattr(EMNISTBalancedFiles, "mirrors", (serve(tmp_path / "mirror")[0],))
    monkeypatch.setattr(EMNISTBalancedFiles, "registry", {"gzip.zip": f"md5:{md5(content.getvalue()).hexdigest()}"})
    files = EMNISTBalancedFiles(str(tmp_path / "target"))
    files.download_files()
    assert [len(labels) for _, labels in files.read(files.locate())] == [30, 10]
    assert list(tmp_path.rglob("*evil*")) == []
    assert sorted(p.name for p in files.locate().folder.iterdir()) == sorted(f"{name}.gz" for name in names)
