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


def test_what_is_imported_with_the_package_the_library_and_its_callbacks():
    """The package alone imports nothing; the library needs no laboratory, no numba, and nothing that only Unix has.

    Lightning sets a variable on import; :func:`~psn_lightning.commands.trainer.ask_for_accelerators_once` undoes that.
    """
    code = """
import builtins, json, os, sys
def loaded(*names): return [name for name in names if name in sys.modules]
real, asked = builtins.__import__, []
def noted(name, globals=None, *rest, **more):
    if name == "fcntl" and globals and str(globals.get("__name__")).startswith("psn_lightning"):
        asked.append(globals["__name__"])
    return real(name, globals, *rest, **more)
sys.modules["fcntl"] = None  # what asks for it fails
builtins.__import__ = noted
import psn_lightning
first = loaded("torch", "lightning", "numpy", "mlflow")
from psn_lightning import Lognormal, sparsify, sparse_layers, TopologyUpdater
library = loaded("lightning", "mlflow", "sklearn", "pandas", "optuna", "numba", "statsmodels")
del sys.modules["fcntl"]
from psn_lightning import RigL, Sparsify
callbacks = loaded("mlflow", "sklearn", "pandas", "optuna", "numba", "statsmodels")
import psn_lightning.task
task = loaded("mlflow", "sklearn", "pandas", "optuna", "numba", "statsmodels")
print(json.dumps([asked, first, library, callbacks, task, os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"]]))
"""
    assert in_a_new_process(code) == [[], [], [], [], [], "1"]


def test_the_plain_install_runs_the_main_job_and_names_the_extra_of_a_command(workdir):
    """Without the packages of the extras: csr becomes masked, with a warning."""
    code = f"""
import contextlib, io, json, sys, warnings
for name in ("numba", "llvmlite", "optuna", "statsmodels", "markdown_it"):
    sys.modules[name] = None
from psn_lightning.cli import main
out, err = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(out), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    flags = ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    fitted = main(["fit", "--config", {str(CONF / "quickstart.yaml")!r}, *flags])
with contextlib.redirect_stderr(err):
    swept = main(["sweep", "--config", "x.yaml"])
warned = any("needs numba" in str(w.message) for w in caught)
print(json.dumps([fitted, warned, "test accuracy" in out.getvalue(), swept, "psn_lightning[sweeps]" in err.getvalue()]))
"""
    assert in_a_new_process(code) == [0, True, True, 2, True]
