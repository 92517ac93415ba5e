# ruff: noqa: E501  (a message is one line)
import pytest


def test_all_problems_are_reported_together_each_with_its_line(refused):
    lines = refused(
        "seed: '4'\nmodel:\n  num_haeds: 4\n  dropout: true\n  norm: per\nsearch: {beamsize: 5}\n"
        "training: {max_updates: null, batch_tokens: 9.0}\n",
        "training: {tensorboard: no}",
        overrides=["model.ffn_size=0"],
    )
    assert sorted(lines) == [
        "model.dropout must be a number of at least 0 and below 1, got true (config0.yaml line 10)",
        "model.ffn_size must be a whole number of at least 1, got 0 (--set model.ffn_size=0)",
        "model.norm must be pre or post, got the text 'per': did you mean pre? (config0.yaml line 11)",
        "model.num_haeds is unknown: did you mean model.num_heads? (config0.yaml line 9)",
        "search.beamsize is unknown: did you mean search.beam_size? (config0.yaml line 12)",
        "seed must be a whole number from 0 to 4294967295, got the text '4': write 4 without quotes (config0.yaml line 7)",
        "training.batch_tokens must be a whole number of at least 1, or auto, got 9.0: write 9 (config0.yaml line 13)",
        "training.tensorboard must be true or false, got the text 'no': write false (config1.yaml line 1)",
    ]


def test_misfits_of_valid_sections_are_reported_beside_other_problems(refused):
    lines = refused("seed: x\nmodel: {hidden_size: 30}\nsearch: {min_length: 9, max_length: 8}\n")
    assert [line.split(" (")[0] for line in lines] == [
        "seed must be a whole number from 0 to 4294967295, got the text 'x'",
        "model.hidden_size must be divisible by num_heads, got 30 and 4: try 28",
        "search.min_length must be at most max_length, got 9 and 8: try 8",
    ]


def test_missing_settings_are_named_with_what_they_take(refused):
    lines = refused("data: {train: {source: a}, validation: }\n", minimal=False)
    assert [line.split(" (")[0] for line in lines] == [
        "model_directory is missing: a path",
        "data.source_language is missing: a text that is not empty",
        "data.target_language is missing: a text that is not empty",
        "data.train.target is missing: a path or a list of paths",
        "data.validation.source is missing: a path or a list of paths",
        "data.validation.target is missing: a path or a list of paths",
    ]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("model={type: rnn, num_heads: 2}",
         "model.num_heads is a setting of model.type transformer, but model.type is rnn: remove it, or change the type"),
        ("model.cell=lstm", "model.cell is a setting of model.type rnn, but model.type is transformer: "),
        ("training.optimizer.weight_decay=1", "training.optimizer.weight_decay is a setting of training.optimizer.type adamw,"),
        ("data.tokenizer.minimum_count=2",
         "data.tokenizer.minimum_count is a setting of data.tokenizer.type whitespace or data.tokenizer.type character,"),
        ("model.hidden-size=8", "model.hidden-size is unknown: did you mean model.hidden_size?"),
        ("beam_size=4", "beam_size is unknown: did you mean search.beam_size?"),
        ("trainin.seed=4", "trainin is unknown: did you mean training?"),
        ("training.seed=4", "training.seed is unknown: did you mean seed?"),
        ("search.qqq=4", "search.qqq is unknown: search has the settings beam_size, length_penalty, "),
        ("model={<<: {a: 1}}", "model.<< is no key: YAML 1.2 has no merge keys"),
        ("model.type=trasformer", "model.type must be transformer or rnn, got the text 'trasformer': did you mean transformer?"),
        ("model.type=true", "model.type must be transformer or rnn, got true"),
        ("model=rnn", "model must be a section of settings of type transformer or rnn, got the text 'rnn': write model: {type: rnn}"),
        ("search=[1]", "search must be a section of settings, got the list [1]: write the settings of search below it"),
        ("training.early_stopping=true", "training.early_stopping must be a section of settings, or null, got true"),
        ("model.tie_embeddings=null", "model.tie_embeddings must be auto, none, source_target, target_output or all, got null"),
        ("training.max_updates=1e5", "training.max_updates must be a whole number of at least 1, or null, got 100000.0: write 100000"),
        ("training.max_updates=1_000", "training.max_updates must be a whole number of at least 1, or null, got the text '1_000': "
         "write 1000 without underscores"),
        ("training.max_minutes=.inf", "training.max_minutes must be a number above 0, or null, got inf"),
        ("training.optimizer.clip_norm=off", "training.optimizer.clip_norm must be a number above 0, or null, got the text "
         "'off': write null"),
        ("data.source_language=5", "data.source_language must be a text that is not empty, got 5: put it in quotes, \"5\""),
        ("data.train.source=[1]", "data.train.source must be a path or a list of paths, or null, got the list [1]"),
        ("data.tokenizer.model=[]", "data.tokenizer.model must be a path or a list of paths, or null, got the list []"),
        ("data.train.source=[]", "data.train.source must be a path or a list of paths, or null, got the list []"),
        ("search.coverage_penalty=0.2", "search.coverage_penalty must be 0 for model.type transformer, got 0.2"),
        ("model_directory=$HOME/x", "model_directory begins with '$', got '$HOME/x': write ${NAME} for a variable"),
        ("data.train=[a.tsv]", "data.train.0 must be settings, as '- name: one' and others below it, got the text 'a.tsv'"),
        ("data.test={one: 3}", "data.test.one is unknown: data.test has the settings source, target, pairs, "),
        ("data.validation={many: 3}", "data.validation.many is unknown: data.validation has the settings source, target, "),
    ],
)  # fmt: skip
def test_each_problem_is_one_line_that_says_what_to_do(refused, override, line):
    (found,) = refused(overrides=[override])
    assert found.startswith(line)
    assert found.endswith(f"(--set {override})")


def test_a_key_with_dots_in_a_file_is_explained(refused):
    (line,) = refused("training.seed: 4\n")
    assert line.startswith("training.seed is unknown: dots are for --set")


def test_a_long_value_stays_on_one_line(refused):
    (line,) = refused(f'seed: "{"long " * 50}\\n"\n')
    assert len(line) < 200
