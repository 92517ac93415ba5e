"""What a user may have meant by a key that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from nmt.config.section import Section
from nmt.config.structure import all_settings
from nmt.config.yaml_reader import KeyPath

_MOST_PLACES = 3


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Returns the word most like another one, None where none is."""
    known = {candidate.lower(): candidate for candidate in words}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), list(known), n=1, cutoff=0.6)
    return known[found[0]] if found else None


def suggest(path: KeyPath, section: type[Section], *, siblings: Mapping[str, type[Section]], chosen: str) -> str:
    """Says that a key is unknown, and what was probably meant; reads on from the path.

    Args:
        path: the unknown key, with the sections above it.
        section: the section that it was given to.
        siblings: the kinds that this section could have been, by type; empty where there is one kind only.
        chosen: the type of the section, where it has several kinds.
    """
    *above, key = path
    prefix = "".join(f"{name}." for name in above)
    if key == "<<":
        return "is no key: YAML 1.2 has no merge keys, give several files instead (later ones win)"
    if "." in key:
        return "is unknown: dots are for --set; in a file, write each section on a line of its own and indent"
    owners = [kind for kind, cls in siblings.items() if key in cls.model_fields]
    if owners:
        owner = " or ".join(f"{prefix}type {kind}" for kind in owners)
        return f"is a setting of {owner}, but {prefix}type is {chosen}: remove it, or change the type"
    near = nearest(key, section.model_fields)
    if near:
        return f"is unknown: did you mean {prefix}{near}?"
    elsewhere = _elsewhere(key)
    if elsewhere:
        return f"is unknown: did you mean {' or '.join(elsewhere)}?"
    return f"is unknown: {prefix.rstrip('.') or 'a config'} has the settings {', '.join(section.model_fields)}"


def _elsewhere(key: str) -> list[str]:
    """Returns the settings of other sections that have this name, or else the nearest name."""
    names: dict[str, list[str]] = {}
    for setting in all_settings():
        places = names.setdefault(setting.path.rpartition(".")[2], [])
        if setting.path not in places:
            places.append(setting.path)
    near = nearest(key, names)
    return names[near][:_MOST_PLACES] if near else []
