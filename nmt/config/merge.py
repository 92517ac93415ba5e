"""Several files and overrides become one mapping of settings: the later one wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nmt.config.structure import default_types, fill_empty_sections
from nmt.config.yaml_reader import KeyPath


class Layer(NamedTuple):
    """Settings from one file, or from all overrides together.

    Attributes:
        settings: nested dicts.
        origins: where each setting was written ("run.yaml line 3"), by its path.
        remarks: sentences about settings that mean something else than what is written, by their paths.
    """

    settings: dict[str, Any]
    origins: dict[KeyPath, str]
    remarks: Mapping[KeyPath, str] = {}


def merge(layers: Sequence[Layer]) -> Layer:
    """Merges layers from left to right.

    Mappings are merged key by key; lists and scalars are replaced. A layer that changes the `type` of a section (also
    from a default that nobody wrote) replaces that section, because the settings of another kind mean nothing to it.
    """
    defaults = default_types()
    settings: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}
    for layer in layers:
        settings = _merge_into(settings, fill_empty_sections(layer.settings), (), defaults)
        origins |= layer.origins
    return Layer(settings, origins)


def nest(path: KeyPath, value: Any) -> dict[str, Any]:
    """Returns nested dicts that hold one value at `path`."""
    for key in reversed(path):
        value = {key: value}
    return dict(value)


def combine(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Merges two mappings key by key, the second one wins; a `type` is a key like any other."""
    return _merge_into(first, second, (), {})


def _merge_into(
    lower: Mapping[str, Any], upper: Mapping[str, Any], path: KeyPath, defaults: Mapping[KeyPath, str]
) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        below, here = merged.get(key), (*path, key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            changes_type = _changes_type(below, value, here, defaults)
            merged[key] = value if changes_type else _merge_into(below, value, here, defaults)
        else:
            merged[key] = value
    return merged


def _changes_type(
    lower: Mapping[str, Any], upper: Mapping[str, Any], path: KeyPath, defaults: Mapping[KeyPath, str]
) -> bool:
    default = defaults.get(path)
    return default is not None and "type" in upper and upper["type"] != lower.get("type", default)
