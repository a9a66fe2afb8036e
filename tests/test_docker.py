"""docker/: no engine ran these files; they agree with the project and each other. `make lint` checks their syntax."""

import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from tests.conftest import ROOT

DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMPOSE = (DOCKER / "compose.yaml").read_text()
SERVICES = yaml.safe_load(COMPOSE)["services"]
AUTH = (DOCKER / "auth.ini").read_text()
SECRETS = {"POSTGRES_PASSWORD", "MLFLOW_PASSWORD", "MLFLOW_SECRET_KEY"}
PINS = dict(line.split("==") for line in (DOCKER / "constraints.txt").read_text().split("\n") if "==" in line)


INSTALLED = ("csr", "sweeps", "paper", "export", "postgres", "dashboard", "hub")
EXTRAS = [line for name in INSTALLED for line in PROJECT["optional-dependencies"][name]]


@pytest.mark.parametrize(
    "requirement", [*PROJECT["dependencies"], *(line for line in EXTRAS if not line.startswith("psn_lightning"))]
)
def test_the_versions_are_what_the_project_asks_for(requirement):
    asked = Requirement(requirement)
    assert PINS[asked.name] in asked.specifier


def test_servers_and_workers_have_one_version_of_mlflow():
    assert SERVICES["mlflow"]["image"] == f"ghcr.io/mlflow/mlflow:v{PINS['mlflow']}-full"


def test_images_and_python_are_pinned():
    images = [service["image"] for service in SERVICES.values() if "build" not in service]
    images += re.findall(r"^FROM (\S+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert len(images) == 4
    assert all(re.search(r":v?\d+\.\d+", image) for image in images)


def test_every_variable_has_an_example_and_the_other_way_round():
    example = re.findall(r"^(\w+)=", (DOCKER / ".env.example").read_text(), re.MULTILINE)
    assert sorted(example) == sorted(set(re.findall(r"\$\{(\w+)", COMPOSE)))


def test_the_example_is_what_compose_takes_without_it():
    example = dict(re.findall(r"^(\w+)=(.*)", (DOCKER / ".env.example").read_text(), re.MULTILINE))
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE))
    assert defaults == {key: value for key, value in example.items() if key not in SECRETS}
    assert (ROOT / example["SWEEP"]).is_file()


def test_no_password_is_written_down():
    assert set(re.findall(r"\$\{(\w+):\?", COMPOSE)) == SECRETS  # compose refuses to start without them
    assert not re.search(r"postgresql\S*://\w+:", COMPOSE + AUTH)
    assert "password" not in re.sub("#.*", "", AUTH)
    ignored = subprocess.run(["git", "check-ignore", "docker/.env"], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout.strip() == "docker/.env"


def test_the_two_programs_have_a_database_each():
    backend = next(word for word in SERVICES["mlflow"]["command"] if word.startswith("--backend-store-uri"))
    storage = next(word for word in SERVICES["worker"]["command"] if word.startswith("--storage"))
    made = re.findall(r"CREATE DATABASE (\w+)", (DOCKER / "create-databases.sql").read_text())
    assert [backend.rsplit("/", 1)[1]] == made
    assert storage.rsplit("/", 1)[1] == SERVICES["postgres"]["environment"]["POSTGRES_DB"]


def test_ports_are_published_to_this_machine_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_must_not_be_lost_is_in_volumes():
    for service in ("postgres", "mlflow", "worker"):
        assert any(":/" in volume and not volume.startswith(".") for volume in SERVICES[service]["volumes"])


def test_training_has_no_privileges():
    assert re.search(r"^USER 1000$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
