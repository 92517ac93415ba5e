import json
from pathlib import Path

import pytest

from nmt.config.reference import explain, explain_text, reference_page, schema_text, write_reference
from nmt.settings.config import Config, RNNSettings
from nmt.settings.section import section_classes, settings_of

PLAIN = [setting for setting in settings_of(Config) if not section_classes(setting.field)]
ROOT = Path(__file__).parents[2]
REMEDY = "run `python -m nmt.config.reference` and commit what it writes"


def test_the_committed_page_and_schema_are_those_of_the_code():
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == reference_page(), REMEDY
    assert (ROOT / "docs/config.schema.json").read_text(encoding="utf-8") == schema_text(), REMEDY


def test_every_setting_of_every_kind_is_explained_once():
    rows = explain()
    assert len({(row.path, row.kind) for row in rows}) == len(rows) == len(PLAIN)
    paths = {row.path for row in rows}
    assert {f"model.{name}" for name in RNNSettings.model_fields} <= paths
    assert {"seed", "data.train.source", "training.schedule.patience", "search.beam_size"} <= paths
    page, text = reference_page(), explain_text()
    assert all(f"| `{row.path}` |" in page and f"  {row.path}" in text for row in rows)


def test_rows_say_type_default_and_whether_a_setting_may_change():
    rows = {(row.path, row.kind): row for row in explain()}
    assert rows["search.beam_size", None][2:4] == ("a whole number of at least 1", "5")
    assert rows["search.beam_size", None].may_change
    assert rows["model.dropout", "rnn"][2:4] == ("a number of at least 0 and below 1", "0.2")
    assert not rows["model.dropout", "rnn"].may_change
    assert rows["model.type", "transformer"].default == "transformer"
    assert rows["model.type", "rnn"].default == "required"
    assert rows["training.schedule.type", "inverse_sqrt"].default == "inverse_sqrt"
    assert rows["data.train.source", None][2:4] == ("a path or a list of paths, or null", "null")
    assert rows["data.test.source", None].may_change
    assert rows["data.train.source", None].may_change  # the place of the files; their text is compared elsewhere
    assert not rows["data.max_length", None].may_change


ROOT_SCHEMA = json.loads(schema_text())


def admits(schema, value):
    """Checks the part of JSON Schema that ours uses, written apart from the code that generates it."""
    if "$ref" in schema:
        schema = {**schema, **ROOT_SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]}
    if "if" in schema and not admits(schema["then"] if admits(schema["if"], value) else schema["else"], value):
        return False
    if "anyOf" in schema and not any(admits(choice, value) for choice in schema["anyOf"]):
        return False
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    name = names.get(type(value), "null")
    if "type" in schema and name != schema["type"] and (name, schema["type"]) != ("integer", "number"):
        return False
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        bounds = [schema.get("minimum", value) <= value <= schema.get("maximum", value)]
        bounds.append("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
        bounds.append("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
        return all(bounds)
    if isinstance(value, list):
        return all(admits(schema.get("items", {}), element) for element in value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        known = schema.get("additionalProperties", True) or set(value) <= set(properties)
        inner = all(admits(properties.get(key, {}), element) for key, element in value.items())
        return known and inner and set(schema.get("required", ())) <= set(value)
    return True


@pytest.mark.parametrize(
    ("settings", "fits"),
    [
        ({}, True),
        ({"model": {"num_heads": 4}}, True),
        ({"model": {"type": "rnn", "cell": "lstm"}}, True),
        ({"model": {"type": "rnn", "num_heads": 4}}, False),
        ({"model": {"cell": "lstm"}}, False),
        ({"model": {"type": "trasformer"}}, False),
        ({"model": {"num_heads": 0}}, False),
        ({"model": {"num_heads": True}}, False),
        ({"model": {"dropout": 1}}, False),
        ({"training": {"schedule": {"type": "plateau", "patience": 2}, "early_stopping": None}}, True),
        ({"training": {"schedule": {"patience": 2}}}, False),
        ({"training": {"max_updates": None, "optimizer": {"type": "adamw", "weight_decay": 1}}}, True),
        ({"data": {"train": {"source": ["a", "b"], "target": "c"}, "test": None}}, True),
        ({"data": {"train": {"source": 3}}}, False),
        ({"beam_size": 3}, False),
        ({"format_version": 1}, True),
        ({"format_version": 2}, False),
    ],
)
def test_the_schema_admits_what_the_loader_admits(settings, fits):
    assert admits(ROOT_SCHEMA, settings) == fits


def test_the_schema_describes_every_section_and_setting():
    assert set(ROOT_SCHEMA["properties"]) == {*Config.model_fields, "format_version"}
    text = schema_text()
    assert all(json.dumps(setting.field.description, ensure_ascii=False) in text for setting in PLAIN)


def test_the_reference_is_written_into_a_directory_that_exists(tmp_path):
    write_reference(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.schema.json", "configuration.md"]
