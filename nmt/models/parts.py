"""The parts of a model by the names that settings give them, such as `encoder`, `embeddings` or `decoder.0-1`.

A part has the name of a role and, behind dots, what is within it: a layer by its number, from 0, and what that owns.
A variable that is tied plays several roles, and is part of each.
"""

import math
import re
from collections.abc import Iterable, Mapping

import keras

from nmt.errors import ConfigError
from nmt.models.contract import Seq2Seq
from nmt.tying import named_variables, tie_groups, variable_roles

_OF_ALL = {
    "source_embedding": "embeddings.source",
    "target_embedding": "embeddings.target",
    "output_projection": "output.projection",
    "output_bias": "output.bias",
}
"""What every model has, by the first name of role paths."""

_RANGE = re.compile(r"(\d+)-(\d+)")


def part_of(model: Seq2Seq, role: str) -> str:
    """Return the full name of the part that a role path is: `decoder.0.feed_forward.inner.kernel`."""
    first, _, rest = role.partition("/")
    return ".".join([{**_OF_ALL, **model.part_names}.get(first, first), *filter(None, rest.split("/"))])


def select_parts(model: Seq2Seq, names: Iterable[str], setting: str) -> dict[str, dict[str, keras.Variable]]:
    """Find the variables of parts.

    Args:
        model: whose variables exist.
        names: such as `encoder`, `encoder.2`, `decoder.0-1` and `decoder.0.cross_attention`.
        setting: that holds the names.

    Returns:
        By name, its variables by their canonical role paths.

    Raises:
        ConfigError: the model has no such part; the message lists those it has.
    """
    canonical = {id(variable): path for path, variable in named_variables(model).items()}
    roles = [(part_of(model, role).split("."), variable) for role, variable in variable_roles(model).items()]
    selected = {}
    for name in names:
        wanted = name.split(".")
        found = [variable for part, variable in roles if _begins(part, wanted)]
        if not found:
            raise ConfigError(
                f"{setting} must name parts of the model, {', '.join(_part_names(model))} or what they own, such as "
                f"decoder.0.feed_forward, got {name}"
            )
        selected[name] = {canonical[id(variable)]: variable for variable in found}
    return selected


def _begins(part: list[str], wanted: list[str]) -> bool:
    """Whether the name of a part begins with what is wanted, in which `0-2` stands for any number of these."""

    def fits(word: str, pattern: str) -> bool:
        between = _RANGE.fullmatch(pattern)
        if between is None or not word.isdecimal():
            return word == pattern
        return int(between[1]) <= int(word) <= int(between[2])

    return len(part) >= len(wanted) and all(map(fits, part, wanted))


def _part_names(model: Seq2Seq) -> list[str]:
    """Return the names that are most useful: the parts, and what they hold; layers as a range."""
    held: dict[str, list[str]] = {}
    for role in variable_roles(model):
        first, second, *_ = [*part_of(model, role).split("."), ""]
        held.setdefault(first, []).append(second)
    names = []
    for first, inner in held.items():
        layers = [int(word) for word in inner if word.isdecimal()]
        others = [word for word in dict.fromkeys(inner) if word and not word.isdecimal()]
        ranges = [f"{min(layers)}-{max(layers)}"] if layers else []
        names += [first, *(f"{first}.{word}" for word in ranges + others)]
    return names


def freeze(model: Seq2Seq, names: Iterable[str]) -> None:
    """Take parts out of training: their variables keep their values, in all roles that they play.

    Args:
        model: whose variables exist; an optimizer or average that is made of it later keeps nothing of them.
        names: as for `select_parts`.

    Raises:
        ConfigError: the model has no such part, or nothing would be left to train.
    """
    selected = select_parts(model, names, "training.freeze")
    for variables in selected.values():
        for variable in variables.values():
            variable.trainable = False
    if not model.trainable_variables:
        raise ConfigError(
            f"training.freeze must leave something to train, got {', '.join(selected)}, which is all of the model"
        )


def frozen_paths(model: Seq2Seq) -> list[str]:
    """Return the canonical role paths of what is not trained."""
    return [path for path, variable in named_variables(model).items() if not variable.trainable]


def describe_frozen(model: Seq2Seq, names: Iterable[str]) -> str:
    """Say what is frozen, which of it in several roles, and how many parameters are trained of all."""
    sizes = {path: math.prod(variable.shape) for path, variable in named_variables(model).items()}
    frozen = frozen_paths(model)
    trained = sum(sizes.values()) - sum(sizes[path] for path in frozen)
    tied = [group for group in tie_groups(model) if group.variable in frozen]
    roles = "".join(f"; {group.name} is one variable, frozen in all {len(group.roles)} roles" for group in tied)
    return f"frozen: {', '.join(names)}{roles}; {trained:,} of {sum(sizes.values()):,} parameters are trained"


def factors_by_path(model: Seq2Seq, factors: Mapping[str, float]) -> dict[str, float]:
    """Return what the learning rate of variables is multiplied by, by canonical role path; of others it is 1.

    A variable of several parts, because it is tied or because one part lies in another, has the smallest factor.

    Args:
        model: whose variables exist.
        factors: by the name of the part.

    Raises:
        ConfigError: the model has no such part, or all of it is frozen.
    """
    found: dict[str, float] = {}
    for name, variables in select_parts(model, factors, "training.learning_rate_factors").items():
        trained = [path for path, variable in variables.items() if variable.trainable]
        if not trained:
            raise ConfigError(f"training.learning_rate_factors must name what is trained, got {name}, which is frozen")
        found |= {path: min(factors[name], found.get(path, math.inf)) for path in trained}
    return found
