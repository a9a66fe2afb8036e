"""What a release says of itself."""

import re
import tomllib

import yaml
from packaging.version import Version

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_the_same_everywhere():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = next(heading for heading in headings if heading != "Unreleased")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert Version(PROJECT["version"]) == Version(released) == Version(citation)
