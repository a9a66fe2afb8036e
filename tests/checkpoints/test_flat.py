"""Nested configurations as flat dicts, and the short names of their keys."""

from psn_lightning.checkpoints.flat import flatten, short_names


def test_dicts_and_lists_of_dicts_are_flattened_and_lists_of_scalars_are_values():
    nested = {"a": {"b": 1, "c": {}}, "d": [{"e": 2}, 3], "f": [4, 5], "g": None}
    assert flatten(nested) == {"a.b": 1, "a.c": {}, "d.0.e": 2, "d.1": 3, "f": [4, 5], "g": None}


def test_names_are_as_short_as_they_can_be():
    keys = ["model.init_args.lr", "model.sparsity", "data.init_args.lr"]
    assert short_names(keys) == {
        "model.init_args.lr": "model.lr",
        "model.sparsity": "sparsity",
        "data.init_args.lr": "data.lr",
    }
