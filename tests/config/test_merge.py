from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.config import load
from nmt.config.loader import Layer, combine, merge, nest

KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(
    st.dictionaries(KEYS, st.integers()), lambda inner: st.dictionaries(KEYS, st.integers() | inner), max_leaves=8
)


def leaves(tree, path=()):
    """Every value of a tree that is no mapping, by its path."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {key: value for name, inner in tree.items() for key, value in leaves(inner, (*path, name)).items()}


def hides(tree, path):
    """Whether a tree says anything at a path, or a value where the path goes through."""
    for key in path:
        if not isinstance(tree, dict):
            return True
        if key not in tree:
            return False
        tree = tree[key]
    return True


@settings(deadline=None)
@given(TREES, TREES)
def test_the_later_tree_wins_and_nothing_else_is_lost(lower, upper):
    kept = {path: value for path, value in leaves(lower).items() if not hides(upper, path)}
    assert leaves(combine(lower, upper)) == kept | leaves(upper)


def test_nest_builds_the_way_to_a_value():
    assert nest(("a", "b", "c"), 3) == {"a": {"b": {"c": 3}}}


def test_lists_replace_lists_and_layers_stay_as_they_were():
    lower, upper = Layer({"data": {"x": [1, 2, 3]}}, {("data",): "l"}), Layer({"data": {"x": [4]}}, {("data",): "u"})
    assert merge([lower, upper]) == Layer({"data": {"x": [4]}}, {("data",): "u"})
    assert lower.settings == {"data": {"x": [1, 2, 3]}}


def test_files_merge_from_left_to_right_and_overrides_win(write_config):
    files = write_config("seed: 1\nsearch: {beam_size: 2, batch_size: 3}", "seed: 4\nsearch: {beam_size: 5}")
    config = load(files, ["search.beam_size=6"])
    assert (config.seed, config.search.beam_size, config.search.batch_size) == (4, 6, 3)


def test_a_file_that_changes_a_type_replaces_the_section(write_config):
    config = load(write_config("model: {num_heads: 2, hidden_size: 6}", "model: {type: rnn, cell: lstm}"))
    assert (config.model.type, config.model.cell, config.model.hidden_size) == ("rnn", "lstm", 512)


def test_a_file_that_repeats_the_default_type_replaces_nothing(write_config):
    config = load(write_config("model: {num_heads: 2, hidden_size: 6}", "model: {type: transformer, ffn_size: 9}"))
    assert (config.model.num_heads, config.model.hidden_size, config.model.ffn_size) == (2, 6, 9)


def test_an_override_that_changes_a_type_replaces_the_section_wherever_it_stands(write_config):
    file = write_config("training: {optimizer: {epsilon: 0.5}}")
    for overrides in (["training.optimizer.type=sgd", "training.optimizer.momentum=0.5"],
                      ["training.optimizer.momentum=0.5", "training.optimizer.type=sgd"]):  # fmt: skip
        assert load(file, overrides).training.optimizer.momentum == 0.5


def test_a_section_without_content_changes_nothing(write_config):
    config = load(write_config("training: {max_updates: 7}\nmodel: {num_heads: 2}", "training:\nmodel:\nsearch:\n"))
    assert (config.training.max_updates, config.model.num_heads) == (7, 2)


def test_null_switches_an_optional_section_off(write_config):
    file = write_config("training: {early_stopping: {patience: 3}}")
    assert load(file).training.early_stopping.patience == 3
    assert load(file, ["training.early_stopping=null"]).training.early_stopping is None
    assert load(file, ["training.early_stopping={}"]).training.early_stopping.patience == 3
