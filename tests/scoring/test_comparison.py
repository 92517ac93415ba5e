"""Comparing two checkpoints, role by role."""

import numpy as np

from nmt.checkpoint.manifest import Contents
from nmt.directory.inspection import compare

RANDOM = np.random.default_rng(7)
EMBEDDING, BIAS, KERNEL = (RANDOM.normal(size=shape).astype("float32") for shape in ((11, 6), (11,), (6, 8)))
ROLES = ["source/e", "target/e", "output/e"]


def contents_of(model, *groups, **facts):
    ties = tuple(
        {"name": "=".join(r.split("/")[0] for r in roles), "roles": roles, "variable": roles[0], "shape": [11, 6]}
        for roles in groups
    )
    return Contents(1, None, model, tie_groups=ties, facts=facts)


def test_a_checkpoint_equals_itself():
    tied = contents_of({"source/e": EMBEDDING, "bias": BIAS}, ROLES, tokenizers=["x", "x"])
    found = compare(tied, tied)
    assert (found["num_equal"], found["same_tokenizers"]) == (2, True)
    assert not any((found["added"], found["removed"], found["shapes_changed"], found["changed"], found["ties_added"]))


def test_changes_are_relative_to_the_first_and_the_largest_comes_first():
    before = contents_of({"bias": BIAS, "kernel": KERNEL, "zero": np.zeros(3, "float32")})
    model = {"bias": BIAS + np.float32(0.5), "kernel": KERNEL * np.float32(1.001), "zero": np.ones(3, "float32")}
    found = compare(before, contents_of(model))
    assert [change["name"] for change in found["changed"]] == ["zero", "bias", "kernel"]
    expected = np.sqrt(np.sum((model["bias"].astype("float64") - BIAS) ** 2) / np.sum(BIAS.astype("float64") ** 2))
    np.testing.assert_allclose(found["changed"][1]["relative_norm"], expected, rtol=1e-12)
    assert found["changed"][0]["relative_norm"] is None
    assert (found["num_equal"], found["same_tokenizers"]) == (0, None)


def test_what_is_new_gone_or_of_another_shape():
    before = contents_of({"bias": BIAS, "kernel": KERNEL, "old": BIAS}, tokenizers=["x", "x"])
    after = contents_of({"bias": BIAS, "kernel": KERNEL.T, "new": EMBEDDING}, tokenizers=["x", "y"])
    found = compare(before, after)
    assert found["added"] == [{"name": "new", "shape": (11, 6)}]
    assert found["removed"] == [{"name": "old", "shape": (11,)}]
    assert found["shapes_changed"] == [{"name": "kernel", "before": (6, 8), "after": (8, 6)}]
    assert (found["num_equal"], found["same_tokenizers"]) == (1, False)


def test_a_change_of_ties_is_one_of_ties_and_not_of_variables():
    tied = contents_of({"source/e": EMBEDDING}, ROLES)
    other = (EMBEDDING * 2).astype("float32")
    untied = contents_of({"source/e": EMBEDDING, "target/e": EMBEDDING, "output/e": other})
    found = compare(tied, untied)
    assert (found["ties_added"], found["ties_removed"]) == ([], ["source=target=output"])
    assert (found["added"], found["removed"], found["num_equal"]) == ([], [], 2)
    assert [(change["name"], change["relative_norm"]) for change in found["changed"]] == [("output/e", 1.0)]
    back = compare(untied, tied)
    assert (back["ties_added"], back["ties_removed"]) == (["source=target=output"], [])
    assert [(change["name"], change["relative_norm"]) for change in back["changed"]] == [("output/e", 0.5)]
    part = contents_of({"source/e": EMBEDDING, "output/e": other}, ROLES[:2])
    assert compare(tied, part)["ties_added"] == ["source=target"]
    assert [change["name"] for change in compare(tied, part)["changed"]] == ["output/e"]
