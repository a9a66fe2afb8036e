"""What users get wrong: the command, what it needs to be wrong with, and what the message must name."""

import gzip
import json
import pickle
import socket
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tests.conftest import CONF

QUICKSTART = ["fit", "--config", str(CONF / "quickstart.yaml")]
MNIST = ["fit", "--config", str(CONF / "mnist_static.yaml"), "--data.init_args.data_dir", "data"]
FOREST = ["fit", "--config", str(CONF / "forest_static.yaml"), "--data.init_args.data_dir", "data"]
RIGL = "--trainer.callbacks.init_args"


@dataclass(frozen=True)
class Case:
    """One wrong input."""

    what: str
    arguments: list[str]
    names: tuple[str, ...]
    """Parts of the message: the thing and the remedy."""
    files: Callable[[Path], object] | None = None
    """Makes the files that it needs."""


def setting(what, arguments, *names):
    return Case(what, [*QUICKSTART, *arguments.split(" ")], names)


def config(what, content, *names):
    def write(folder):
        path = folder / "wrong.yaml"
        path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)

    return Case(what, [*QUICKSTART, "--config", "wrong.yaml"], names, write)


def idx(values):
    """An IDX file's bytes."""
    array = np.asarray(values, dtype=np.uint8)
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def images(folder, **changed):
    """Four small IDX files of MNIST's layout, some of them wrong."""
    target = folder / "data" / "MNIST" / "raw"
    target.mkdir(parents=True)
    labels = np.arange(20) % 10
    files = {
        "train-images-idx3-ubyte": idx(np.zeros((20, 28, 28))),
        "train-labels-idx1-ubyte": idx(labels),
        "t10k-images-idx3-ubyte": idx(np.zeros((20, 28, 28))),
        "t10k-labels-idx1-ubyte": idx(labels),
    }
    for name, content in {**files, **changed}.items():
        if content is not None:
            (target / name).write_bytes(content)
    return target


def data(what, changed, *names):
    return Case(what, MNIST, names, lambda folder: images(folder, **changed))


def covertype(what, rows, *names):
    def write(folder):
        (folder / "data" / "covertype").mkdir(parents=True)
        with gzip.open(folder / "data" / "covertype" / "covtype.data.gz", "wt") as file:
            file.write("".join(f"{','.join(map(str, row))}\n" for row in rows))

    return Case(what, FOREST, names, write)


CHANGED_GZ = gzip.compress(idx(np.arange(20) % 10), mtime=0)[:-8] + b"changed!"


def data_is_a_file(folder):
    (folder / "data").write_text("")


class Bomb:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return (Path("exploded").touch, ())


def checkpoint(what, make, *names, more=""):
    return Case(what, [*QUICKSTART, "--ckpt_path", "x.ckpt", *more.split()], names, lambda f: make(f / "x.ckpt"))


def bomb(path):
    torch.save({"state_dict": {}, "global_step": 3, "x": Bomb()}, path)


def plain_pickle(path):
    path.write_bytes(pickle.dumps(Bomb()))


def cut(path):
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-300])


def with_origin(**changes):
    def make(path):
        own = {"config": "{}", "run_id": None, "version": "0.0.1", **changes}
        torch.save({"state_dict": {}, "global_step": 3, "psn_lightning.origin": own}, path)

    return make


def origin(version):
    return with_origin(version=version)


def of_run(run_id):
    return with_origin(run_id=run_id)


def of_config(text):
    return with_origin(config=text)


def compressed(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", bytes(10**6))


def occupy(folder):
    """Hold a port that the case's environment names."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    held.listen()
    (folder / "port").write_text(str(held.getsockname()[1]))
    return held


def sweep(what, changes, *names):
    sound = {"name": "a", "base": [str(CONF / "quickstart.yaml")], "space": {"model.sparsity": [0.8]}, "trials": 1}

    def write(folder):
        (folder / "s.yaml").write_text(json.dumps({**sound, **changes}))

    return Case(what, ["sweep", "--config", "s.yaml"], names, write)


def reproduction(what, arguments, *names, **changes):
    """A reproduction of one's own; ``content`` in its place."""
    sound = {"title": "t", "data": {"digits": [str(CONF / "quickstart.yaml")]}, "space": {"model.lr": [0.1]}}

    def write(folder):
        (folder / "conf" / "reproduce").mkdir(parents=True)
        content = changes.get("content") or json.dumps({**sound, "seeds": [1], **changes}).encode()
        (folder / "conf" / "reproduce" / "small.yaml").write_bytes(content)

    return Case(what, ["reproduce", "small", *arguments], names, write)


def record(what, changes, *names, arguments=()):
    """A record of one run; bytes are all of it."""
    texts = ("reproduction", "data", "digest", "dataset", "completeness", "storage", "machine", "version", "commit")
    sound = {**dict.fromkeys(texts, "x"), "cell": {}, "seed": 1, "seconds": 1.0, "date": "2026-11-24"}
    sound |= {"metrics": {"test/accuracy": 0.9}, "curves": {"test/accuracy": [0.9]}}

    def write(folder):
        content = changes if isinstance(changes, bytes) else json.dumps({**sound, **changes}).encode()
        (folder / "r.jsonl").write_bytes(content)

    return Case(what, ["report", "--record", "r.jsonl", *arguments], names, write)


ROW = [*range(54), 1]
CASES = [
    setting("a misspelt setting", "--model.sparsty=0.9", "model.sparsty", "did you mean model.sparsity?"),
    setting("a misspelt group", "--modl.sparsity=0.9", "modl.sparsity", "did you mean model.sparsity?"),
    setting("a setting without a value", "--trainer.max_epochs", "--trainer.max_epochs", "expected one argument"),
    config("a misspelt setting in a file", "model: {sparsty: 0.9}\n", "model.sparsty", "did you mean model.sparsity?"),
    config("a misspelt group in a file", "modl: {sparsity: 0.9}\n", "modl.sparsity", "did you mean model.sparsity?"),
    config("a wrong type in a file", "trainer: {max_epochs: many}\n", "trainer.max_epochs", "many"),
    config(
        "a choice that a callback in a file has not",
        "trainer: {callbacks: [{class_path: GSE, init_args: {distribution: grab}}]}\n",
        "trainer.callbacks",
        "GSE",
        "distribution",
        "'uniform', 'grabo', 'graest'",
        "did you mean grabo?",
    ),
    config(
        "a storage that a callback in a file has not",
        "trainer: {callbacks: [{class_path: Sparsify, init_args: {sparsity: 0.9, storage: cxr}}]}\n",
        "trainer.callbacks",
        "Sparsify",
        "storage",
        "did you mean csr?",
    ),
    config(
        "a text for a number deep in a file",
        "model: {topology: {class_path: Grouped, init_args: {layout: {class_path: Lognormal, init_args: {ccv: x}}}}}\n",
        "model.topology.layout",
        "Lognormal",
        "ccv",
    ),
    setting("an argument that nothing is near to", f"{RIGL}.zzz=1", "zzz", "RigL", "drop_fraction", "period"),
    config("a file that is no YAML", "model: {sparsity: 0.9\n", "wrong.yaml"),
    config("a file that is no text", b"\0\1\xff", "wrong.yaml"),
    config(
        "a key given twice",
        "model:\n  sparsity: 0.5\n  sparsity: 0.6\n",
        "wrong.yaml",
        "sparsity is given twice",
    ),
    config("a list in the place of settings", "model: [1, 2]\n", "wrong.yaml", "model [1, 2]"),
    config("nothing in the place of settings", "trainer:\n", "trainer"),
    config("a file that is nested for ever", "[" * 3000, "wrong.yaml"),
    Case(
        "a shortened option with a file that is no text",
        [*QUICKSTART, "--conf", "wrong.yaml"],
        ("wrong.yaml",),
        lambda folder: (folder / "wrong.yaml").write_bytes(b"\0\1\xff"),
    ),
    config("an empty file", "", "wrong.yaml"),
    config("a file with a list", "- 1\n- 2\n", "wrong.yaml"),
    Case("a file that is not there", ["fit", "--config", "none.yaml"], ("none.yaml", "configs")),
    Case("a folder as a file", ["fit", "--config", "."], (".",)),
    setting("a text for a number", "--model.sparsity=much", "model.sparsity", "much"),
    setting("sparsity below 0", "--model.sparsity=-1", "sparsity -1.0 is not in [0, 1)"),
    setting("sparsity 1", "--model.sparsity=1", "sparsity 1.0 is not in [0, 1)"),
    setting("sparsity above 1", "--model.sparsity=1.5", "sparsity 1.5 is not in [0, 1)"),
    setting("sparsity NaN", "--model.sparsity=.nan", "sparsity nan is not in [0, 1)"),
    setting(
        "a CCV in a dense network",
        "--model.topology=Lognormal --model.sparsity=0",
        "ccv 1 of Lognormal cannot be reached",
    ),
    setting(
        "a CCV out of reach",
        "--model.topology=Lognormal --model.topology.ccv=9",
        "ccv 9 of Lognormal cannot be reached",
        "the largest reachable value is",
    ),
    setting("a negative CCV", "--model.topology=PowerLaw --model.topology.ccv=-1", "ccv -1.0 of PowerLaw"),
    setting("a fan-in above the ceiling", "--model.min_fan_in=20", "min_fan_in 20"),
    setting("a fan-in of 0", "--model.min_fan_in=0", "min_fan_in 0 is not in 1"),
    setting("a family that there is not", "--model.topology=Lognrmal", "Lognrmal", "did you mean Lognormal?"),
    setting(
        "an argument that a family has not",
        "--model.topology=Lognormal --model.topology.cv=1",
        "cv",
        "did you mean ccv?",
    ),
    setting("a width of 0", "--model.topology=Bell --model.topology.width=0", "width 0.0 of Bell", "[0.01, 100]"),
    setting("a spreading that there is not", "--model.spreading=evn", "model.spreading", "evn", "did you mean even?"),
    setting(
        "an allocation that there is not", "--model.allocation=erkk", "model.allocation", "erkk", "did you mean erk?"
    ),
    setting("a storage that there is not", "--model.storage=cxr", "model.storage", "cxr", "did you mean csr?"),
    setting("an initialisation that there is not", "--model.init=he", "model.init", "he", "mean_fan_in"),
    setting("no hidden layer", "--model.hidden=[]", "layer sizes [64, 10]", "hidden"),
    setting("a hidden layer of no neurons", "--model.hidden=[0]", "layer sizes [64, 0, 10]"),
    setting("a width instead of widths", "--model.hidden=8", "model.hidden", "8"),
    setting("a learning rate of 0", "--model.lr=0", "lr 0.0 must be a positive number"),
    setting(
        "two learning rates", "--model.lr=0.1 --model.optimizer=SGD --model.optimizer.lr=0.2", "lr 0.1", "optimizer"
    ),
    setting("an optimizer that there is not", "--model.optimizer=SGDD", "SGDD"),
    setting("a batch of 0", "--data.init_args.batch_size=0", "batch_size 0 must be at least 1"),
    setting("everything held out", "--data.init_args.val_fraction=1", "val_fraction 1.0 is not in [0, 1)"),
    setting("a data set that there is not", "--data=Digit", "Digit", "did you mean Digits?"),
    setting("an argument that data have not", "--data.init_args.batch=3", "batch", "batch_size"),
    setting("zero epochs", "--trainer.max_epochs=0", "trainer.max_epochs 0"),
    setting("zero steps", "--trainer.max_steps=0", "trainer.max_steps 0"),
    setting("negative epochs", "--trainer.max_epochs=-3", "max_epochs", "-3"),
    setting("a seed below 0", "--seed_everything=-1", "seed_everything -1", "from 0 to"),
    setting("a period of 0", f"{RIGL}.period=0", "period 0"),
    setting("a drop fraction of 0", f"{RIGL}.drop_fraction=0", "drop_fraction 0.0 is not in (0, 1]"),
    setting("a drop fraction above 1", f"{RIGL}.drop_fraction=2", "drop_fraction 2.0 is not in (0, 1]"),
    setting("updates that end before they begin", f"{RIGL}.begin=500 {RIGL}.end=100", "begin 500"),
    setting("a callback that there is not", "--trainer.callbacks=RigLL", "RigLL", "did you mean RigL?"),
    setting("an argument that a rule has not", f"{RIGL}.perid=10", "perid", "did you mean period?"),
    setting("two rules", "--trainer.callbacks+=SET", "RigL and SET"),
    setting("an accelerator that is not here", "--trainer.accelerator=gpu", "gpu"),
    setting("a class that others are made of", "--data=psn_lightning.data.datamodules.IdxImages", "IdxImages"),
    setting("no device", "--trainer.devices=0", "devices", "0"),
    setting("a word for devices", "--trainer.devices=foo", "devices"),
    setting("more processes than can be", "--trainer.devices=100000000", "trainer.devices 100000000", "cores"),
    setting("no batch to accumulate", "--trainer.accumulate_grad_batches=0", "accumulate_grad_batches 0", "at least 1"),
    setting("an evaluation after no batch", "--trainer.val_check_interval=0", "val_check_interval 0"),
    setting(
        "an evaluation after more than an epoch", "--trainer.val_check_interval=99999", "val_check_interval", "99999"
    ),
    setting("an evaluation after no epoch", "--trainer.check_val_every_n_epoch=0", "check_val_every_n_epoch 0", "1"),
    setting("a gradient clipped to less than nothing", "--trainer.gradient_clip_val=-1", "gradient_clip_val -1", "0"),
    setting(
        "an optimizer's negative rate",
        "--model.optimizer=torch.optim.SGD --model.optimizer.init_args.lr=-1",
        "model.optimizer",
        "learning rate",
    ),
    setting(
        "a schedule without steps",
        "--model.lr_scheduler=StepLR --model.lr_scheduler.init_args.step_size=0",
        "model.lr_scheduler",
    ),
    setting("a layer that no memory holds", "--model.hidden=[100000000000]", "out of memory", "smaller"),
    setting("a strategy that there is not", "--trainer.strategy=dpp", "dpp"),
    setting("a strategy that cuts weights", "--trainer.strategy=fsdp", "strategy fsdp"),
    setting(
        "a precision that csr has not",
        "--model.storage=csr --trainer.precision=bf16-mixed",
        "precision bf16-mixed",
    ),
    setting("a checkpoint every 0 steps", "--checkpoints.every_n_steps=0", "every_n_steps 0"),
    setting("a share above 1", "--guards.dead_neurons=2", "dead_neurons 2.0"),
    setting("a logger without its folder", "--trainer.logger=CSVLogger", "trainer.logger", "save_dir"),
    setting("a store of no kind", "--tracking.uri=ftp://x", "tracking.uri 'ftp://x'", "sqlite"),
    setting(
        "a login in an address", "--tracking.uri=http://me:secret@x", "http://me:***@x", "MLFLOW_TRACKING_PASSWORD"
    ),
    setting(
        "a port that is no number", "--tracking.uri=http://127.0.0.1:abc", "not an address", "http://127.0.0.1:abc"
    ),
    setting("an address with a space", "--tracking.uri=http://a\tb", "not an address"),
    setting("an address with half a bracket", "--tracking.uri=http://[::1", "not an address"),
    setting("a database with no port", "--tracking.uri=postgresql://h:port/d", "not an address"),
    setting("a store without a file", "--tracking.uri=sqlite://", "names no file", "sqlite:///mlruns/mlflow.db"),
    setting("a store that is a folder", "--tracking.uri=file:runs", "MLflow 3 takes no folders", "sqlite:///"),
    setting(
        "a server that is away", "--tracking.uri=http://127.0.0.1:9", "tracking.uri 'http://127.0.0.1:9'", "start it"
    ),
    setting(
        "a choice that there is not", "--tracking.on_error=queu", "tracking.on_error", "queu", "did you mean queue?"
    ),
    Case(
        "a store in a place where none can be",
        [*QUICKSTART, "--tracking.uri=sqlite:///file/mlflow.db"],
        ("tracking.uri", "file"),
        lambda folder: (folder / "file").write_text(""),
    ),
    data("an empty IDX file", {"train-images-idx3-ubyte": b""}, "train-images-idx3-ubyte", "0 bytes"),
    data("a truncated IDX file", {"t10k-images-idx3-ubyte": idx(np.zeros((20, 28, 28)))[:-9]}, "t10k-images", "15671"),
    data("swapped IDX files", {"train-images-idx3-ubyte": idx(range(20))}, "train-images", "1 dimensions"),
    data("labels out of range", {"t10k-labels-idx1-ubyte": idx([47] * 20)}, "t10k-labels", "47", "0 … 9"),
    data("fewer labels than images", {"train-labels-idx1-ubyte": idx([1] * 7)}, "MNIST", "7 labels"),
    data("no IDX file", {"train-labels-idx1-ubyte": b"hello, world"}, "train-labels", "IDX"),
    data(
        "a gz that is not gz",
        {"train-images-idx3-ubyte": None, "train-images-idx3-ubyte.gz": b"not packed"},
        "train-images-idx3-ubyte.gz",
        "gzip",
    ),
    data(
        "a gz with a changed byte",
        {"train-labels-idx1-ubyte": None, "train-labels-idx1-ubyte.gz": CHANGED_GZ},
        "train-labels-idx1-ubyte.gz",
        "gzip",
    ),
    Case("a data folder that is a file", [*MNIST, "--data.init_args.download=false"], ("MNIST",), data_is_a_file),
    covertype("rows of 53 columns", [ROW[:53]] * 20, "covtype.data.gz", "53 columns"),
    covertype("a feature that is NaN", [["nan", *ROW[1:]]] * 20, "covtype.data.gz", "infinite"),
    covertype("a label of 9", [[*ROW[:-1], 9]] * 20, "covtype.data.gz", "label 9", "1 … 7"),
    covertype("a word for a number", [["tree", *ROW[1:]]] * 20, "covtype.data.gz", "tree"),
    Case("a checkpoint that is not there", [*QUICKSTART, "--ckpt_path", "x.ckpt"], ("x.ckpt",)),
    Case("the last of no run", [*QUICKSTART, "--ckpt_path", "last"], ("checkpoint last", "there is no training run")),
    Case("a test without a checkpoint", ["test", *QUICKSTART[1:]], ("test needs a trained network", "--ckpt_path")),
    checkpoint("a checkpoint that is compressed", compressed, "x.ckpt", "compressed"),
    checkpoint("a checkpoint whose run is a number", of_run(7), "x.ckpt", "7"),
    checkpoint("a checkpoint of no version", origin("zzz"), "x.ckpt", "zzz"),
    checkpoint("a checkpoint whose configuration is none", of_config("3"), "x.ckpt"),
    checkpoint("a checkpoint whose configuration makes objects", of_config("!!python/object:os.x {}"), "x.ckpt"),
    checkpoint("a checkpoint without loops", of_run(None), "x.ckpt", "callbacks"),
    checkpoint("a text as a checkpoint", lambda path: path.write_text("no"), "x.ckpt"),
    checkpoint("a truncated checkpoint", cut, "x.ckpt"),
    checkpoint("a checkpoint that runs code", bomb, "x.ckpt", "weights_only"),
    checkpoint("a pickle that runs code", plain_pickle, "x.ckpt"),
    checkpoint("a checkpoint of something else", lambda path: torch.save({"a": 1}, path), "x.ckpt"),
    checkpoint("a checkpoint of a later version", origin("99.0"), "x.ckpt", "99.0"),
    Case("a command that there is not", ["fitt"], ("'fitt' is not a command", "--help")),
    Case("an option that compare has not", ["compare", "--metic", "x"], ("--metic", "did you mean --metric?")),
    Case("an experiment that there is not", ["compare", "--experiment", "none"], ("--experiment 'none' is not in",)),
    Case("a record that is not there", ["report", "--record", "none.jsonl"], ("none.jsonl has no runs", "reproduce")),
    Case("a data set that data knows not", ["data", "mnits"], ("data set 'mnits' is not one of mnist",)),
    Case("a sweep that is not there", ["sweep", "--config", "none.yaml"], ("none.yaml",)),
    Case(
        "a setting that sweeps have not",
        ["sweep", "--config", "s.yaml"],
        ("trails"),
        lambda folder: (folder / "s.yaml").write_text(
            json.dumps({"name": "a", "base": [str(CONF / "quickstart.yaml")], "space": {"model.lr": [1]}, "trails": 3})
        ),
    ),
    Case(
        "a figure where none can be",
        ["topology", *QUICKSTART[1:], "--figure=file/x.png"],
        ("--figure file/x.png cannot be written",),
        lambda folder: (folder / "file").write_text(""),
    ),
    Case(
        "a port in use",
        [*QUICKSTART, "--trainer.strategy=ddp", "--trainer.devices=1", "--model.storage=masked"],
        ("MASTER_PORT", "in use"),
        occupy,
    ),
    setting("a split seed below 0", "--data.init_args.split_seed=-1", "split_seed -1 must be an integer from 0 to"),
    setting("a base class as a data set", "--data=IdxImages", "IdxImages"),
    setting("a base class of tables", "--data=TabularData", "TabularData"),
    Case("a home of nobody", [*MNIST[:-1], "~nosuchuser/x"], ("data_dir '~nosuchuser/x'",)),
    config("a folder with a NUL", 'data: {class_path: MNIST, init_args: {data_dir: "a\\0b"}}\n', "data_dir 'a\\x00b'"),
    data("images without contrast", {}, "MNIST in data/MNIST/raw", "standard deviation 0"),
    covertype("a constant column", [ROW] * 20, "Covertype in data/covertype", "standard deviation 0 of column 1"),
    covertype(
        "numbers of 38 digits",
        [[f"{i % 3}e38", *ROW[1:]] for i in range(20)],
        "Covertype in data/covertype",
        "column 1",
    ),
    sweep("a study named as a folder", {"name": ".."}, "name '..' of the study must be a word"),
    sweep("a study's name of two lines", {"name": "a\nb"}, "name 'a\\nb' of the study must be a word"),
    sweep("a study's name with a NUL", {"name": "a\0b"}, "name 'a\\x00b' of the study must be a word"),
    sweep("a study's name of 400 letters", {"name": "n" * 400}, "of the study must be a word", "at most 100 bytes"),
    sweep("no seeds", {"seeds": []}, "seeds []", "give one at least"),
    sweep("a seed of a study below 0", {"seeds": [-1]}, "seeds [-1] must be numbers from 0 to"),
    sweep("a seed twice", {"seeds": [1, 1]}, "seeds [1, 1]", "none of them twice"),
    sweep("a seed to retrain with below 0", {"retrain_seeds": [-1]}, "retrain_seeds [-1] must be numbers from 0 to"),
    sweep(
        "a sparsity of 7 in a study",
        {"space": {"model.sparsity": [0.8, 7]}, "settings": {"trainer.max_epochs": 1}},
        "sparsity 7.0 is not in [0, 1)",
    ),
    reproduction("no workers", ["--workers", "0"], "--workers 0 must be at least 1"),
    reproduction("workers below 0", ["--workers", "-3"], "--workers -3 must be at least 1"),
    reproduction("a budget that is no number", ["--budget", "nan"], "--budget nan", "minutes above 0"),
    reproduction("a budget below 0", ["--budget", "-1"], "--budget -1", "minutes above 0"),
    reproduction("a binary reproduction", [], "conf/reproduce/small.yaml", content=b"\0\1\xff"),
    reproduction("a reproduction that is no YAML", [], "conf/reproduce/small.yaml", content=b"title: ["),
    reproduction("a misspelt reproduction", [], "small.yaml", "titel", content=b"titel: x"),
    reproduction("a reproduction without seeds", [], "conf/reproduce/small.yaml: seeds [] is empty", seeds=[]),
    Case("a folder as a record", ["report", "--record", "."], (". is a folder", "results/runs.jsonl")),
    record("a binary record", b"\0\1\xff\xfe", "r.jsonl cannot be read as a record"),
    record("a text as a record", b"hello\n", "r.jsonl, line 1 is damaged"),
    record("a record that is nested deeply", b"[" * 100_000, "r.jsonl, line 1 is damaged"),
    record("a run without its accuracy", {"metrics": {}}, "r.jsonl, line 1 is damaged (metrics", "test/accuracy"),
    record("metrics that are none", {"metrics": [1]}, "r.jsonl, line 1 is damaged (metrics"),
    record("a text among metrics", {"metrics": {"test/accuracy": "x"}}, "r.jsonl, line 1 is damaged (metrics"),
    record("a cell that is a list", {"cell": [1]}, "r.jsonl, line 1 is damaged (cell"),
    record("a seed that is a text", {"seed": "one"}, "r.jsonl, line 1 is damaged (seed", "'one'"),
    record("a date that is a number", {"date": 20261124}, "r.jsonl, line 1 is damaged (date"),
    record("seconds that are a text", {"seconds": "x"}, "r.jsonl, line 1 is damaged (seconds", "'x'"),
    record(
        "a cell that no table knows", {"reproduction": "static", "data": "mnist"}, "r.jsonl", "'profile'", "--debug"
    ),
    record("a file to bring up to date that is not there", {}, "--into none.md", arguments=["--into", "none.md"]),
]
