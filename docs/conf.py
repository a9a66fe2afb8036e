"""Sphinx configuration of the site: ``make docs`` builds it into ``docs/_build/html``.

The pages are the Markdown files of this folder, which read on their own as well; ``generated/`` is written from the
code before each build, and tutorials are executed.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the modules of this folder
os.environ.setdefault("OMP_NUM_THREADS", "1")  # notebooks run beside each other
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # notebooks call psn-train
os.environ["COLUMNS"] = "90"  # tables in the outputs of commands
os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
os.environ["IPYTHONDIR"] = str(HERE / "_build" / "ipython")
os.environ["PYTHONWARNINGS"] = "ignore"  # those of other packages in the outputs of commands name paths of the machine

import public_names  # noqa: E402
import reference_pages  # noqa: E402
from configuration_links import link_configurations, link_pages  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "psn_lightning"
author = "the psn_lightning developers"
release = version = version_of("psn_lightning")
html_title = f"psn_lightning {release}"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "myst_nb", "sphinx_copybutton"]
exclude_patterns = ["_build"]
nitpicky = True
# Names of other packages, whose inventories are not at hand without a network, and bare names of types.
nitpick_ignore_regex = [("py:.*", r"(?!psn_lightning)\w+\..*"), ("py:class", r"\w+")]

myst_heading_anchors = 3
myst_links_external_new_tab = False

# A notebook is executed again if it, or anything of the package, has changed.
_SOURCES = sorted([*HERE.parent.glob("psn_lightning/**/*.py"), *HERE.parent.glob("conf/**/*.yaml")])
_DIGEST = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()[:12]
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "notebooks" / _DIGEST)
nb_execution_in_temp = True
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False


_STARTUP = """
import os, subprocess, warnings
from IPython.core.magic import register_cell_magic

os.environ.pop("FORCE_COLOR"), os.environ.pop("CLICOLOR_FORCE")  # commands print what they print into a file
warnings.filterwarnings("ignore")

@register_cell_magic
def bash(line, cell):
    done = subprocess.run(["bash", "-ec", cell], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    done.check_returncode()
"""
"""What notebooks begin with here: a cell of bash ends with its first error, and its output is one piece."""


def _prepare_notebooks(app: Sphinx) -> None:
    path = Path(os.environ["IPYTHONDIR"]) / "profile_default" / "startup" / "site.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_STARTUP)


def _skip_hooks(app: Sphinx, kind: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what Lightning and torch call, not a user: overridden hooks."""
    import lightning.pytorch as pl
    from torch import nn

    hooks = (pl.Callback, pl.LightningModule, pl.LightningDataModule, nn.Module)
    own = name.rpartition(".")[2]
    return True if any(hasattr(base, own) for base in hooks) and own != "forward" else None


def _interleave(app: Sphinx, env: Any, docnames: list[str]) -> None:
    """Give notebooks to two processes: Sphinx deals out pages by the chunk, in the order of their names."""
    from sphinx.util.parallel import make_chunks

    notebooks = [name for name in docnames if name.startswith("tutorials/")]
    others = [name for name in docnames if name not in notebooks]
    first, second = notebooks[::2], notebooks[1::2]
    size = max(map(len, make_chunks(docnames, app.parallel)), default=0)  # the first chunks have that many pages
    fill = max(0, size - len(first))
    docnames[:] = [*first, *others[:fill], *second, *others[fill:]]


_MACHINE = re.compile(r"(?:/tmp/|/home/|/root/|/usr/lib|site-packages)[^\s<]*")


def _refuse_paths(app: Sphinx, error: Exception | None) -> None:
    """Warn of paths of this machine in the outputs of tutorials."""
    from sphinx.util import logging

    for page in sorted(Path(app.outdir).glob("tutorials/*.html")) if error is None else ():
        for found in sorted(set(_MACHINE.findall(page.read_text()))):
            logging.getLogger(__name__).warning("%s shows a path of this machine: %s", page.name, found)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect what is above."""
    app.connect("builder-inited", lambda app: reference_pages.write(HERE / "generated"))
    app.connect("builder-inited", _prepare_notebooks)
    app.connect("source-read", link_pages)
    app.connect("doctree-read", link_configurations)
    app.connect("autodoc-process-docstring", public_names.mark_up_docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-bases", public_names.show_public_bases)
    app.connect("missing-reference", public_names.resolve_name)
    app.connect("autodoc-skip-member", _skip_hooks)
    app.connect("env-before-read-docs", _interleave)
    app.connect("build-finished", _refuse_paths)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
