"""Reads YAML with the scalars of YAML 1.2, remembers on which line each setting stands, and writes settings.

PyYAML follows YAML 1.1, in which `no` is false, `12:30` is 750 and `1e-3` is a text. Here the core schema of YAML 1.2.2
(section 10.3.2) holds: `no` is Norwegian, `12:30` is a text and `1e-3` is a number. A duplicate key is an error.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from nmt.errors import ConfigError

KeyPath = tuple[str, ...]

_TAG = "tag:yaml.org,2002:"
_MAXIMUM_NODES = 100_000

CORE_SCALARS: list[tuple[str, str, str]] = [
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
]
"""The core schema: the tag, the plain scalars that have it, and the characters that these can begin with."""


class Document(NamedTuple):
    """What a YAML text says.

    Attributes:
        value: dicts with text keys, lists and scalars.
        lines: the line, from 1, on which each key of a mapping stands, by its path.
    """

    value: Any
    lines: dict[KeyPath, int]


class _CoreLoader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _name, _pattern, _first in CORE_SCALARS:
    _CoreLoader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), list(_first))
_CoreLoader.yaml_implicit_resolvers[""] = [(_TAG + "null", re.compile("^$"))]


def read_yaml(text: str, where: str) -> Document:
    """Reads one YAML document.

    Args:
        text: the YAML text.
        where: how problems name it: a file, or an option of the command line.

    Raises:
        ConfigError: the text cannot be parsed, or holds duplicate keys or what cannot be read as a setting; says where
            and what to do, one line for each.
    """
    reader = _NodeReader(where, {}, [], itertools.count(1))
    try:
        node = yaml.compose(text, _CoreLoader)
        value = None if node is None else reader.read(node, ())
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = f"U+{ord(text[error.position]):04X}"
        message = f"contains the character {code}, which YAML does not allow: remove it"
        raise ConfigError(f"{where} line {line}: {message}") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_describe_syntax_error(error, where)) from None
    except RecursionError:
        raise ConfigError(f"{where}: is nested too deeply for settings") from None
    if reader.problems:
        raise ConfigError("\n".join(reader.problems))
    return Document(value, reader.lines)


_READ_SCALARS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": lambda text: int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)),
    "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}
"""How the text of a scalar is read, by its tag."""


class _NodeReader(NamedTuple):
    """Turns YAML nodes into plain values, and notes where the keys stand and what is wrong."""

    where: str
    lines: dict[KeyPath, int]
    problems: list[str]
    counted: Iterator[int]

    def read(self, node: Node, path: KeyPath) -> Any:
        """Returns the value of a node that stands at `path`."""
        if next(self.counted) > _MAXIMUM_NODES:  # a few lines of aliases of aliases stand for any number of them
            raise ConfigError(f"{self.where}: holds more than {_MAXIMUM_NODES} values: that is no config")
        tag, shown = node.tag.removeprefix(_TAG), node.tag.replace(_TAG, "!!")
        if tag not in (*_READ_SCALARS, "map", "seq"):
            self._report(node, f"the tag {shown} is not allowed in a config: write the plain value")
        elif isinstance(node, ScalarNode):
            try:
                return _READ_SCALARS[tag](node.value)
            except (ValueError, KeyError):
                self._report(node, f"{node.value[:40]!r} cannot be read as {tag}")
        elif isinstance(node, MappingNode):
            return self._mapping(node, path)
        else:
            return [self.read(child, (*path, str(number))) for number, child in enumerate(node.value)]
        return None

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_path = (*path, str(key_node.value))
            if not isinstance(key_node, ScalarNode):
                self._report(key_node, "a key must be a word, not a list or a mapping")
            elif key_node.value in settings:
                twice = f"{'.'.join(key_path)} is given twice, first in line {self.lines[key_path]}"
                self._report(key_node, f"{twice}: remove one of the two")
            else:
                self.lines[key_path] = key_node.start_mark.line + 1
                settings[key_node.value] = self.read(value_node, key_path)
        return settings

    def _report(self, node: Node, message: str) -> None:
        self.problems.append(f"{self.where} line {node.start_mark.line + 1}: {message}")


_REMEDIES = {
    "'\\t'": "a tab cannot indent YAML: use spaces",
    "expected a single document": "a second YAML document begins here (---): a config is one document, give two files "
    "instead",
    "mapping values are not allowed": "a ':' is not expected here: check the indentation, or put the text in quotes",
    "could not find expected ':'": "a ':' is missing after a key, with a space behind it",
    "cannot start any token": "this character cannot begin a text: put the text in quotes",
}
"""What to say where PyYAML's own words are these."""


def _describe_syntax_error(error: yaml.MarkedYAMLError, where: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{where} line {mark.line + 1}, column {mark.column + 1}" if mark else where
    said = ": ".join(dict.fromkeys(filter(None, (error.context, error.problem))))
    known = [remedy for words, remedy in _REMEDIES.items() if words in said]
    return f"{place}: {known[0] if known else 'is no valid YAML: ' + said}"


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader would take for something else than a text: one of YAML 1.1, or ours of YAML 1.2."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indents lists below their key, as people write them."""
        super().increase_indent(flow, False)


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Puts texts with the line breaks of Unicode in double quotes: PyYAML would write them raw and read a space."""
    style = '"' if any(character in text for character in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
for _name, _pattern, _first in CORE_SCALARS:
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(_pattern), list(_first))


def dump_yaml(settings: Mapping[str, Any]) -> str:
    """Returns settings as YAML, one line for each and for each element of a list."""
    return yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6)
