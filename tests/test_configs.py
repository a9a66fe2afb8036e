"""Every YAML in conf/: it runs, and each of its keys carries a comment."""

import dataclasses
import inspect
from itertools import product

import pytest
import yaml

import psn_lightning
from psn_lightning import callbacks as callbacks_module
from psn_lightning import topology
from psn_lightning.callbacks import DynamicTopology
from psn_lightning.cli import main
from psn_lightning.commands.training import PSNCLI
from psn_lightning.data import DATASETS
from psn_lightning.nn import Mixture
from psn_lightning.sweeps.command import configuration, plan_of
from psn_lightning.sweeps.lottery.settings import configuration as lottery_configuration
from psn_lightning.sweeps.sweep import Sweep, parse
from psn_lightning.topology.statistics import realised_sparsity
from tests.conftest import CONF, QUIET, only_run, require

CONFIGS = sorted(path.stem for path in CONF.glob("*.yaml"))
PAPER = [f"{data}_{kind}" for data in ("mnist", "fashion", "emnist", "forest") for kind in ("dense", "static", "rigl")]


def test_the_thirteen_are_there():
    assert sorted([*PAPER, "quickstart"]) == CONFIGS


# Every data set with RigL, and every kind on MNIST; the others are built.
RUN = ["quickstart", "mnist_dense", "mnist_static", *(name for name in PAPER if name.endswith("rigl"))]


@pytest.mark.parametrize("name", sorted(set(PAPER) - set(RUN)))
def test_its_objects_can_be_made(name, workdir):
    cli = PSNCLI(["--config", str(CONF / f"{name}.yaml"), *QUIET], run=False)
    layers = cli.model.network.connectivities().values()
    assert realised_sparsity(layers) == pytest.approx(0.0 if name.endswith("dense") else 0.9, abs=0.001)


@pytest.mark.parametrize("name", RUN)
def test_it_runs_for_a_few_steps(name, client):
    data = name.split("_")[0]
    if data in DATASETS:
        require(data)
    few = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=4", "--trainer.limit_val_batches=1"]
    if not name.startswith("fashion"):  # the other networks have as many layers, and are made and saved in less time
        few.append(f"--model.hidden={[256] * (3 if data == 'forest' else 2)}")
    assert main(["fit", "--config", str(CONF / f"{name}.yaml"), *QUIET, *few]) == 0
    run = only_run(client)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == name
    target = 0.0 if name.endswith("dense") else 0.9
    assert run.data.metrics["sparsity/realised"] == pytest.approx(target, abs=0.001 if data in DATASETS else 0.005)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_is_explained(name):
    for line in (CONF / f"{name}.yaml").read_text().splitlines():
        assert not line.strip() or "# " in line, f"{name}.yaml: {line}"


SCALE = sorted(path.stem for path in (CONF / "scale").glob("*.yaml"))


def test_both_scales_are_there():
    assert SCALE == ["million", "wide"]


@pytest.mark.parametrize("name", SCALE)
def test_a_scale_runs_narrowed(name, client):
    require("fashion")
    path = CONF / "scale" / f"{name}.yaml"
    narrow = ["--model.hidden=[64,48]", "--model.sparsity=0.9", "--trainer.callbacks.init_args.period=3"]
    few = ["--trainer.limit_train_batches=8", "--trainer.limit_val_batches=1"]
    assert main(["fit", "--config", str(path), *QUIET, *narrow, *few]) == 0
    metrics = only_run(client).data.metrics
    assert metrics["sparsity/realised"] == pytest.approx(0.9, abs=0.001)
    assert all(metrics[f"topology/grown/fc{i}"] > 0 for i in (1, 2))
    for line in path.read_text().splitlines():
        assert not line.strip() or "# " in line, f"{path.name}: {line}"


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_settings(name, workdir, capsys):
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    data, kind = name.split("_")
    epochs = {"mnist": 10, "fashion": 10, "emnist": 20, "forest": 30}[data]
    if kind == "rigl":
        epochs = 30 if data == "forest" else 20
        (rigl,) = config["trainer"]["callbacks"]
        assert rigl["init_args"]["drop_fraction"] == 0.3
        assert rigl["init_args"]["period"] == 100
        assert rigl["init_args"]["end"] == 0.75
    assert config["trainer"]["max_epochs"] == epochs
    assert config["data"]["init_args"]["batch_size"] == (256 if data == "forest" else 128)
    assert config["model"]["hidden"] == [1024] * (3 if data == "forest" else 2)
    assert config["model"]["lr"] == 0.001


RULES = sorted(path.stem for path in (CONF / "rules").glob("*.yaml"))

RECIPES = {"mest_soft": "mest", "rigl_itop": "rigl", "set_itop": "setrule"}  # methods with settings of another paper
PRUNED = {"gmp", "acdc", "static"}  # of what is left nothing has moved
LATENT = {"str", "topkast"}  # weights that are not in use are trained too: no rule and no equilibrium


def test_the_rules_are_there():
    methods = ["acdc", "cht", "chts", "chtss", "gmp", "granet", "gse", "mest", "rigl", "set", "srigl", "static"]
    methods += ["str", "topkast"]
    assert sorted([*methods, *RECIPES]) == RULES


@pytest.mark.parametrize("rule", sorted(set(RULES) - set(RECIPES)))  # recipes are other settings of one of these
def test_a_rule_overlays_the_quickstart(rule, client):
    overlay = ["--config", str(CONF / "rules" / f"{rule}.yaml")]
    few = ["--trainer.max_epochs=4", "--data.init_args.batch_size=32", "--trainer.check_val_every_n_epoch=4"]
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), *overlay, *QUIET, *few]) == 0
    run = only_run(client)
    assert run.data.tags["rule"].lower() == rule
    if rule == "str":  # without a target, and in 180 steps of Adam
        assert 0 < run.data.metrics["sparsity/realised"] < 0.9
        return
    assert run.data.metrics["sparsity/realised"] == pytest.approx(0.9, abs=0.005)
    moved = any(run.data.metrics[f"topology/overlap_with_initial/fc{i}"] < 1 for i in (1, 2))
    assert moved == (rule not in PRUNED)
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert ("equilibrium.png" in artifacts) == (rule not in {"static", *LATENT})


@pytest.mark.parametrize(("rule", "name"), [*product(RULES, ["fashion_rigl"]), ("gmp", "forest_static")])
def test_a_rule_takes_the_place_of_another(rule, name, workdir, capsys):
    overlay = ["--config", str(CONF / "rules" / f"{rule}.yaml")]
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(CONF / f"{name}.yaml"), *overlay, "--print_config"])
    assert stopped.value.code == 0
    callbacks = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    names = [c["class_path"].rsplit(".", 1)[1].lower() for c in callbacks]
    method = RECIPES.get(rule, rule).replace("setrule", "dynamictopology")
    assert names == ([] if rule == "static" else [method])


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_objects_of_a_recipe_can_be_made(recipe, workdir):
    overlay = ["--config", str(CONF / "rules" / f"{recipe}.yaml")]
    cli = PSNCLI(["--config", str(CONF / "quickstart.yaml"), *overlay, *QUIET], run=False)
    (rule,) = (callback.rule for callback in cli.trainer.callbacks if isinstance(callback, DynamicTopology))
    assert type(rule).__name__.lower().removesuffix("rule") == RECIPES[recipe].removesuffix("rule")


@pytest.mark.parametrize("rule", RULES)
def test_every_key_of_a_rule_is_explained_and_is_the_default(rule):
    path = CONF / "rules" / f"{rule}.yaml"
    for line in path.read_text().splitlines():
        assert not line.strip() or "# " in line or line.startswith("#"), f"{rule}.yaml: {line}"
    for callback in yaml.safe_load(path.read_text())["trainer"]["callbacks"]:
        parameters = inspect.signature(getattr(callbacks_module, callback["class_path"])).parameters
        defaults = {key: parameter.default for key, parameter in parameters.items()}
        assert callback["init_args"].keys() == defaults.keys()
        assert rule in RECIPES or callback["init_args"] == defaults


SWEEPS = sorted((CONF / "sweeps").glob("*.yaml"))


def test_the_three_sweeps_are_there():
    assert [path.stem for path in SWEEPS] == ["ccv_offsets", "profiles_grid", "quickstart"]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_can_be_and_every_key_of_it_is_explained(path, workdir):
    sweep, _ = parse(["--config", str(path)])
    plan = plan_of(sweep, configuration(sweep))
    assert plan.tickets.n == {"ccv_offsets": 24, "profiles_grid": 6 * 4 * 5, "quickstart": 8}[path.stem]
    for line in path.read_text().splitlines():
        assert not line.strip() or "# " in line, f"{path.name}: {line}"


def test_one_sweep_shows_every_setting_and_its_default():
    text = (CONF / "sweeps" / "ccv_offsets.yaml").read_text()
    for field in dataclasses.fields(Sweep):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{field.name}:")]
        if field.default is not dataclasses.MISSING:
            default = {None: "null"}.get(field.default, field.default)
            assert f"default {default}" in line or f"default: {default}" in line, line


PRUNING = sorted(path.stem for path in (CONF / "pruning").glob("*.yaml"))


@pytest.mark.parametrize("name", PRUNING)
def test_pruning_overlays_the_quickstart(name, client):
    overlay = ["--config", str(CONF / "pruning" / f"{name}.yaml")]
    few = ["--trainer.max_epochs=1"]
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), *overlay, *QUIET, *few]) == 0
    run = only_run(client)
    assert run.data.metrics["sparsity/realised"] == pytest.approx(0.9, abs=0.0005)
    for line in (CONF / "pruning" / f"{name}.yaml").read_text().splitlines():
        assert not line.strip() or "# " in line, f"{name}.yaml: {line}"


WIRINGS = sorted(path.stem for path in (CONF / "wirings").glob("*.yaml"))


@pytest.mark.parametrize("name", WIRINGS)
def test_a_wiring_overlays_the_quickstart(name, workdir):
    overlay = ["--config", str(CONF / "wirings" / f"{name}.yaml")]
    cli = PSNCLI(["--config", str(CONF / "quickstart.yaml"), *overlay, *QUIET, "--trainer.callbacks=[]"], run=False)
    # Each of 16 rows of blocks needs one: 16 + 20 blocks of 16 × 16 in 81,920 positions.
    expected = 1 - 36 * 256 / 81_920 if name == "block_sparse" else 0.9
    assert realised_sparsity(cli.model.network.connectivities().values()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", WIRINGS)
def test_every_key_of_a_wiring_is_explained_and_is_the_default(name):
    path = CONF / "wirings" / f"{name}.yaml"
    for line in path.read_text().splitlines():
        assert not line.strip() or "# " in line or line.startswith("#"), f"{name}.yaml: {line}"
    given = yaml.safe_load(path.read_text())["model"]["topology"]
    fields = {f.name: f for f in dataclasses.fields(getattr(psn_lightning, given["class_path"]))}
    assert set(given.get("init_args", {})) == set(fields)
    for key, value in given.get("init_args", {}).items():
        default = fields[key].default
        expected = value["class_path"] if isinstance(value, dict) else value
        assert expected == (fields[key].default_factory.__name__ if default is dataclasses.MISSING else default)


def test_every_wiring_has_an_overlay():
    given = [yaml.safe_load((CONF / "wirings" / f"{name}.yaml").read_text())["model"]["topology"] for name in WIRINGS]
    assert {cls.__name__ for cls in topology.WIRINGS} <= {wiring["class_path"] for wiring in given}


MOE = CONF / "moe" / "shazeer.yaml"


def test_mixtures_overlay_the_quickstart(client):
    overlay = ["--config", str(MOE), "--trainer.max_epochs=2"]
    assert main(["fit", "--config", str(CONF / "quickstart.yaml"), *overlay, *QUIET]) == 0
    run = only_run(client)
    assert run.data.params["model.mixture.experts"] == "20"
    assert run.data.tags["storage"] == "dense"
    assert run.data.metrics["moe/active_connections"] == pytest.approx(0.1 * run.data.metrics["moe/connections"])
    assert {"train/auxiliary_loss", "moe/load_cv/fc1", "moe/share/fc2/19"} <= {*run.data.metrics}
    assert "sparsity/realised" not in run.data.metrics


@pytest.mark.parametrize("name", [name for name in PAPER if name.endswith("rigl")])
def test_mixtures_overlay_every_data_set(name, workdir, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(CONF / f"{name}.yaml"), "--config", str(MOE), "--print_config"])
    assert stopped.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["mixture"]["experts"] == 20
    assert (config["model"]["sparsity"], config["trainer"]["callbacks"]) == (0.0, [])


def test_every_key_of_mixtures_is_explained_and_has_its_default():
    defaults = dataclasses.asdict(Mixture())
    settings = yaml.safe_load(MOE.read_text())["model"]["mixture"]
    assert settings == {**defaults, "experts": 20}
    for line in MOE.read_text().splitlines():
        assert not line.strip() or "# " in line, line
        for key, default in defaults.items():
            if line.strip().startswith(f"{key}:"):
                shown = {"None": "null", "True": "true"}.get(str(default), default)
                assert f"default {shown}" in line or f"default: {shown}" in line, line


def test_the_lottery_overlays_mnist_and_every_key_is_explained(workdir, monkeypatch):
    path = CONF / "lottery" / "lenet_mnist.yaml"
    config = lottery_configuration(["--config", str(CONF / "mnist_dense.yaml"), "--config", str(path)])
    assert config["model"]["hidden"] == [300, 100]
    assert config["data"]["init_args"]["batch_size"] == 60
    assert config["model"]["lr"] == 0.0012
    for line in path.read_text().splitlines():
        assert not line.strip() or "# " in line, f"{path.name}: {line}"
