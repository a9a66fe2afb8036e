"""The packages of the wheel: the library, and the configurations of ``conf/`` as ``psn_lightning.conf``."""

from setuptools import find_namespace_packages, setup

LIBRARY = find_namespace_packages(include=["psn_lightning", "psn_lightning.*"], exclude=["*.__pycache__"])
CONFIGURATIONS = find_namespace_packages("conf", exclude=["examples"])  # examples/ itself is in a checkout only

setup(
    packages=[*LIBRARY, "psn_lightning.conf", *(f"psn_lightning.conf.{name}" for name in CONFIGURATIONS)],
    package_dir={"psn_lightning.conf": "conf"},
)
