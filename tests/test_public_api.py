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
    block = next(
        node
        for node in ast.parse(Path(nmt.__file__).read_text("utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            seen[alias.asname or alias.name] = node.module if alias.asname is None else f"{node.module}:{alias.name}"
    assert seen == nmt._HOMES


def test_a_name_is_not_hidden_by_a_room():
    rooms = {path.stem for path in Path(nmt.__file__).parent.iterdir()}
    assert not rooms & set(nmt.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Translater'"):
        nmt.Translater  # noqa: B018
