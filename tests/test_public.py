"""The public face: everything by name at the top, imported on first use."""

import json
import subprocess
import sys

import psn_lightning
from tests.conftest import CONF


def in_a_new_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_every_name_is_there():
    assert all(getattr(psn_lightning, name) is not None for name in psn_lightning.__all__)
    assert {"sparsify", "sparse_layers", "densify", "SparseMLP", "Topology", "Lognormal", "RigL"} <= {
        *psn_lightning.__all__
    }
    assert psn_lightning.__version__.count(".") == 2


def test_the_package_alone_imports_nothing_and_the_library_no_laboratory():
    code = """
import json, sys
def loaded(*names): return [name for name in names if name in sys.modules]
import psn_lightning
first = loaded("torch", "lightning", "numpy", "mlflow")
from psn_lightning import Lognormal, sparsify, sparse_layers, TopologyUpdater
library = loaded("lightning", "mlflow", "sklearn", "pandas", "optuna", "numba", "statsmodels")
from psn_lightning import RigL, Sparsify
callbacks = loaded("mlflow", "sklearn", "pandas", "optuna", "numba", "statsmodels")
print(json.dumps([first, library, callbacks]))
"""
    assert in_a_new_process(code) == [[], [], []]


def test_the_library_does_not_need_what_only_unix_has():
    code = """
import json, sys
sys.modules["fcntl"] = None  # what asks for it fails
import builtins
real, asked = builtins.__import__, []
def noted(name, globals=None, *rest, **more):
    if name == "fcntl" and globals and str(globals.get("__name__")).startswith("psn_lightning"):
        asked.append(globals["__name__"])
    return real(name, globals, *rest, **more)
builtins.__import__ = noted
import psn_lightning.nn, psn_lightning.dynamics, psn_lightning.topology
print(json.dumps(asked))
"""
    assert in_a_new_process(code) == []


def test_a_command_whose_packages_are_missing_names_the_extra():
    code = """
import contextlib, io, json, sys
sys.modules["optuna"] = None
from psn_lightning.cli import main
err = io.StringIO()
with contextlib.redirect_stderr(err):
    status = main(["sweep", "--config", "x.yaml"])
print(json.dumps([status, err.getvalue()]))
"""
    status, err = in_a_new_process(code)
    assert status == 2
    assert "psn_lightning[sweeps]" in err


def test_the_main_job_runs_on_the_plain_install(workdir):
    """Without the packages of the extras: csr becomes masked, with a warning."""
    code = f"""
import contextlib, io, json, sys, warnings
for name in ("numba", "llvmlite", "optuna", "statsmodels", "markdown_it"):
    sys.modules[name] = None
from psn_lightning.cli import main
out = io.StringIO()
with contextlib.redirect_stdout(out), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    flags = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    status = main(["fit", "--config", {str(CONF / "quickstart.yaml")!r}, *flags])
print(json.dumps([status, any("needs numba" in str(w.message) for w in caught), "test accuracy" in out.getvalue()]))
"""
    assert in_a_new_process(code) == [0, True, True]
