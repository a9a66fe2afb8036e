"""Whether a rule can update layers."""

from __future__ import annotations

from collections.abc import Mapping

from psn_lightning.dynamics.layer_views import view_sizes
from psn_lightning.dynamics.rules import Rule
from psn_lightning.errors import SettingError
from psn_lightning.nn.group_view import GroupView
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.pair_view import at_group_grain


def check_layers(
    layers: Mapping[str, SparseLayer], rule: Rule, initial: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Check that a rule can update all layers.

    Args:
        layers: Sparse layers by name.
        rule: Rule to check.
        initial: Number of connections at the start of the run by layer name; the present ones by default.

    Returns:
        Number of connections at the start of the run by layer name; of pairs of a group and an input where a layer has
        groups.

    Raises:
        SettingError: If the rule cannot update a layer.
    """
    layers = {name: at_group_grain(layer) for name, layer in layers.items()}
    _check_groups(layers, rule)
    counts = {name: layer.n_connections for name, layer in layers.items()} | dict(initial or {})
    rule.check({name: view_sizes(name, layer, counts[name]) for name, layer in layers.items()})
    hidden = [name for name, layer in layers.items() if rule.needs_activity and not layer.shows_activity]
    if hidden:
        raise SettingError(
            f"{type(rule).__name__} draws candidates by the inputs of a layer, which {', '.join(hidden)} does not show "
            "(its module is not called, as in torch's attention): draw them uniformly, or leave the layer out"
        )
    return counts


def _check_groups(layers: Mapping[str, SparseLayer], rule: Rule) -> None:
    """Check that a rule works on groups of neurons where a layer has them.

    Raises:
        SettingError: If it follows single neurons from layer to layer, or compares layers whose groups differ in size.
    """
    scoring = getattr(rule, "rule", rule)  # of a rule that is held to a structure
    grouped = [name for name, layer in layers.items() if isinstance(layer, GroupView)]
    if grouped and type(rule).after_drop is not Rule.after_drop:
        raise SettingError(
            f"{type(rule).__name__} follows single neurons from layer to layer, but those of {', '.join(grouped)} "
            "share their inputs in groups: use another rule, or a topology without groups"
        )
    sizes = {layer.size if isinstance(layer, GroupView) else 1 for layer in layers.values()}
    if type(scoring).prepare is not Rule.prepare and len(sizes) > 1:
        raise SettingError(
            f"{type(scoring).__name__} compares the weights of all layers, whose neurons share inputs in groups of "
            f"{', '.join(map(str, sorted(sizes)))}: use one size for all layers, or a rule that works layer by layer"
        )
