"""The wheel alone, in an environment and a folder of its own; torch and the others are borrowed from this one."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import CONF, ROOT

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

BUILD = ["-m", "build", "--no-isolation", "--outdir"]


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """Folder with the wheel and the source archive that it was made from."""
    source, folder = tmp_path_factory.mktemp("source") / "tree", tmp_path_factory.mktemp("dist")
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "results/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run([sys.executable, *BUILD, str(folder), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "would be ignored" not in done.stdout + done.stderr  # setuptools found a package that is not listed
    return folder


@pytest.fixture(scope="session")
def environment(dist, tmp_path_factory):
    """Folder of the programs of a virtual environment in which the wheel is installed."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(home), "platbase": str(home)})
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    Path(paths["purelib"], "borrowed.pth").write_text("\n".join(borrowed))  # no editable install is followed
    (wheel,) = dist.glob("*.whl")
    pip = [f"{paths['scripts']}/python", "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run(pip, check=True, env=alone())
    return paths["scripts"]


def alone():
    return {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "MLFLOW_TRACKING_URI"}}


@pytest.fixture
def psn_train(environment, workdir):
    def run(*arguments):
        done = subprocess.run([f"{environment}/psn-train", *arguments], capture_output=True, text=True, env=alone())
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    return run


def test_an_index_would_accept_them(dist):
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir()], check=True)


def test_it_has_the_configurations_but_for_those_of_a_checkout(dist):
    (wheel,) = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {p.relative_to(CONF) for p in CONF.rglob("*.yaml") if "examples" not in p.parts}
    assert {name for name in names if name.startswith("psn_lightning/conf/")} == {
        f"psn_lightning/conf/{path}" for path in shipped
    }
    assert {"psn_lightning/py.typed", "psn_lightning/starter/starter.py", "psn_lightning/__init__.pyi"} <= names


def test_everything_works_in_an_empty_folder(psn_train, environment, workdir):
    where = subprocess.run(
        [f"{environment}/python", "-c", "import psn_lightning as p; print(p.__file__, p.__version__)"],
        capture_output=True, text=True, env=alone(), cwd=workdir, check=True,
    ).stdout  # fmt: skip
    assert str(ROOT) not in where
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.max_epochs=2"]
    assert "test accuracy" in psn_train("demo", "--config", "rules/set", *quiet)
    few = ["--settings", "{data.init_args.val_fraction: 0.2, trainer.max_epochs: 2}", "--retrain_seeds", "[]"]
    assert "1 complete" in psn_train("sweep", "--config", "sweeps/quickstart", *few, "--trials", "1", "--pruner=null")
    assert "claims:" in psn_train("report", "--record", str(ROOT / "results" / "runs.jsonl"))
    assert "plan.yaml is not here" not in (workdir / "report" / "report.md").read_text()
    psn_train("init", "lab")
    assert (workdir / "lab" / "conf" / "rules" / "set.yaml").is_file()
