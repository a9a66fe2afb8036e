"""Known vulnerabilities of what is installed; where their database cannot be reached, that is said and nothing more."""

import json
import subprocess
import sys
from pathlib import Path

TOOL = [str(Path(sys.executable).with_name("pip-audit")), "--skip-editable", "--progress-spinner=off", "--format=json"]


def main() -> int:
    """Print what was found; 1 where it was something."""
    done = subprocess.run(TOOL, capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        packages = []
    audited = [package for package in packages if "vulns" in package]
    found = [package for package in audited if package["vulns"]]
    if not audited:
        print("audit: the database of vulnerabilities cannot be reached from here, nothing was audited")
    else:
        print(f"audit: {len(audited)} of {len(packages)} packages, {len(found)} with known vulnerabilities")
    for package in found:
        print(f"  {package['name']} {package['version']}: {', '.join(entry['id'] for entry in package['vulns'])}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
