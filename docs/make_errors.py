"""Writes docs/errors.md from the cases of tests/bad_inputs.py: ``python -m docs.make_errors``."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

from psn_lightning.cli import main
from tests.bad_inputs import CASES, Case
from tests.test_bad_input import row_of

HERE = Path(__file__).parent.resolve()
HEAD = """# What is told when something is wrong

Every error of a user's ends a command with exit code 2 and a line or two; nothing is written, no run is begun.
`--debug` with the command shows the traceback. The table is written by `python -m docs.make_errors` from
`tests/bad_inputs.py`, whose test (`tests/test_bad_input.py`) holds every message against it.

| what was wrong | command | message |
| --- | --- | --- |
"""


def message_of(case: Case) -> str:
    """The case's line, from running it."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["HOME"] = f"{Path(folder).resolve()}/home"  # no data set is found there
        held = case.files(Path(folder)) if case.files else None
        if Path("port").exists():
            os.environ["MASTER_PORT"] = Path("port").read_text()
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            code = main(case.arguments)
        del held
        os.environ.pop("MASTER_PORT", None)
        os.chdir(before)
        printed = errors.getvalue()
        if code != 2:
            raise RuntimeError(f"{case.what}: exit code {code}: {printed}")
        return row_of(case, printed[printed.index("psn-train: ") :].strip(), Path(folder).resolve())


if __name__ == "__main__":
    for name in ("MLFLOW_TRACKING_URI", "PSN_DATA_DIR"):
        os.environ.pop(name, None)
    (HERE / "errors.md").write_text(HEAD + "\n".join(map(message_of, CASES)) + "\n")
