import math

import pytest

from nmt.errors import ConfigError
from nmt.yaml_files import read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"), ("true", True), ("FALSE", False),
        ("tRue", "tRue"), ("null", None), ("~", None), ("", None), ("nULL", "nULL"),
        ("12:30", "12:30"), ("1:2:3", "1:2:3"), ("2024-05-06", "2024-05-06"), ("1_000", "1_000"), ("=", "="),
        ("0o17", 15), ("017", 17), ("0x1F", 31), ("0b11", "0b11"), ("-7", -7), ("+7", 7), ("-0o7", "-0o7"),
        ("1e-3", 1e-3), ("1E3", 1e3), ("-.5", -0.5), ("3.", 3.0), (".5e1", 5.0), (".", "."), ("1e", "1e"),
        ("-", [None]),
        (".inf", math.inf), ("-.INF", -math.inf), ("'1'", "1"), ('"true"', "true"),
        ("!!str 5", "5"), ("!!float 2", 2.0),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    read = read_yaml(text, "x").value
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number():
    assert math.isnan(read_yaml(".NaN", "x").value)


def test_lines_are_those_of_the_keys():
    document = read_yaml("# head\na: 1\nb:\n  c: {d: 2}\n\n  e: [3]\n", "x")
    assert document.value == {"a": 1, "b": {"c": {"d": 2}, "e": [3]}}
    assert document.lines == {("a",): 2, ("b",): 3, ("b", "c"): 4, ("b", "c", "d"): 4, ("b", "e"): 6}


def test_keys_are_texts_as_they_are_written():
    assert read_yaml("1: a\nno: b\ntrue: c\n~: d\n", "x").value == {"1": "a", "no": "b", "true": "c", "~": "d"}


def test_every_duplicate_is_reported_with_both_lines():
    with pytest.raises(ConfigError) as refused:
        read_yaml("a: 1\nb: {c: 1, c: 2}\na: 3\n", "f.yaml")
    assert str(refused.value).split("\n") == [
        "f.yaml line 2: b.c is given twice, first in line 2: remove one of the two",
        "f.yaml line 3: a is given twice, first in line 1: remove one of the two",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object:os.system 1", "f line 1: the tag !!python/object:os.system is not allowed"),
        ("a: !!set {b}", "f line 1: the tag !!set is not allowed"),
        ("\na: !x [1]", "f line 2: the tag !x is not allowed"),
        ("? [1]\n: 2", "f line 1: a key must be a word"),
        ("a: !!int x", "f line 1: 'x' cannot be read as int"),
        ("a: " + "9" * 5000, "f line 1: '9999"),
    ],
)
def test_nodes_that_are_no_settings_are_reported(text, message):
    with pytest.raises(ConfigError) as refused:
        read_yaml(text, "f")
    (problem,) = str(refused.value).split("\n")
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [1, 2\nc: 3", "f line 3, column 2: is no valid YAML: .*',' or '\\]'"),
        ("a:\n\tb: 1", "f line 2, column 1: a tab cannot indent YAML: use spaces"),
        ("a: b: c", "f line 1, column 5: a ':' is not expected here"),
        ("a: 1\n---\nb: 1", "f line 2, column 1: a second YAML document"),
        ("a: 1\nbb\nc: 2", "f line 3, column 1: a ':' is missing"),
        ("a: @b", "f line 1, column 4: .*put the text in quotes"),
        ("a: *b", "f line 1, column 4: .*undefined alias 'b'"),
        ("a: 1\nb: \x07", "f line 2: contains the character U\\+0007"),
        ("a: " + "[" * 5000, "f: is nested too deeply"),
        ("a: &a [*a]", "f: is nested too deeply"),
    ],
)
def test_syntax_errors_name_the_place(text, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        read_yaml(text, "f")


def test_aliases_that_multiply_are_refused():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError, match="no config"):
        read_yaml("\n".join(levels), "f")
