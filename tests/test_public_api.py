"""Every public name is there, in one list, and comes from where it says."""

import ast
from pathlib import Path

import pytest

import nmt


def test_the_list_is_sorted_and_complete():
    names = nmt.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert len(set(names)) == len(names) >= 30
    assert set(names) == {*nmt._HOMES, "__version__"}
    assert set(names) <= set(dir(nmt))


@pytest.mark.parametrize("name", nmt.__all__)
def test_every_name_resolves(name):
    value = getattr(nmt, name)
    assert name == "__version__" or callable(value)


def test_type_checkers_see_the_same_names():
    """A stub gives on what it imports under its own name, and what it assigns."""
    stub = ast.parse(Path(nmt.__file__).with_suffix(".pyi").read_text("utf-8"))
    imported = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    names = {alias.asname for node in imported for alias in node.names if alias.asname in (alias.name, "_load")}
    assert names ^ {*nmt._HOMES} == {"_load", "load_config"}
    assert "load_config = _load" in map(ast.unparse, stub.body)


def test_a_name_is_not_hidden_by_a_room():
    rooms = {path.stem for path in Path(nmt.__file__).parent.iterdir()}
    assert not rooms & set(nmt.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Translater'"):
        nmt.Translater  # noqa: B018
