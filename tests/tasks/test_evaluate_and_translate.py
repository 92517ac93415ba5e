"""Recipes as functions, without a command line."""

import pytest

from nmt.config import load
from nmt.errors import CheckpointError, ConfigError, DataError
from nmt.inference.translator import Translator
from nmt.recipes.train import check_config
from nmt.scoring.evaluation import evaluate_files
from nmt.tasks.evaluate import EvaluationSet, prepare_evaluation, read_test_set, tokenization_of
from nmt.tasks.translate import prepare_translation

pytestmark = pytest.mark.usefixtures("eagerly")


def said_by_us(caplog):
    """What was logged, without what TensorFlow has to say."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("nmt")]


def test_translate_takes_chunks_as_they_come(trained_run):
    asked = []

    def chunks():
        for chunk in (["uno dos", ""], ["siete"]):
            asked.append(chunk)
            yield chunk

    lines = prepare_translation(trained_run.directory)(chunks())
    assert asked == []
    first = next(lines)
    assert (first.record.source, len(asked)) == ("uno dos", 1)
    rest = list(lines)
    assert [line.record.source for line in rest] == ["", "siete"]
    texts = [line.translations[0].text for line in (first, *rest)]
    assert texts == Translator.load(trained_run.directory).translate(["uno dos", "", "siete"])


def test_terms_of_a_glossary_are_placed_and_counted(trained_run, tmp_path, caplog):
    caplog.set_level("INFO")
    glossary, chunks = tmp_path / "terms", [["uno dos", "tres", ""], ["Dos uno dos"]]
    glossary.write_text("dos\tnine eight | eight four\nuno\txyz\n")
    settings = ["search.min_length=4", "search.beam_size=3"]
    plain = list(prepare_translation(trained_run.directory, overrides=settings)(chunks))
    caplog.clear()
    lines = list(prepare_translation(trained_run.directory, overrides=settings, glossary=glossary)(chunks))
    texts = [line.translations[0].text for line in lines]
    assert [text.count("nine eight") + text.count("eight four") for text in texts] == [1, 0, 0, 2]
    for place in (1, 2):
        assert texts[place] == plain[place].translations[0].text
    assert said_by_us(caplog)[1].startswith("the glossary cannot ask for the translation of 'uno': 'xyz | Xyz' cannot")
    assert said_by_us(caplog)[-2:] == [
        "glossary: 5 terms found in 2 of 4 lines: 3 placed (60.0%), 0 inflected, 2 not placed",
        "    uno → xyz: 2 of 2 not placed, 0 of them inflected",
    ]


def test_a_glossary_is_refused_by_another_search_and_where_the_output_would_replace_it(
    trained_run, exported_run, tmp_path
):
    glossary = tmp_path / "terms"
    glossary.write_text("dos\ttwo\n")
    with pytest.raises(ConfigError, match="CTranslate2 lets nobody into its steps, and cannot have phrases that must"):
        prepare_translation(exported_run, engine="ctranslate2", glossary=glossary)
    with pytest.raises(ConfigError, match="the file that --glossary names"):
        prepare_translation(trained_run.directory, glossary=glossary, output_path=glossary)


def test_what_is_said_of_the_lines_is_said_of_all_chunks_together(trained_run, caplog):
    limits = ["search.min_length=2", "search.max_length=2"]
    lines = list(prepare_translation(trained_run.directory, overrides=limits)([["uno dos", ""], ["siete"]]))
    assert len(lines) == 3
    (message,) = said_by_us(caplog)
    assert message.startswith("2 translations are as long as allowed")


def test_text_that_the_model_cannot_read_is_said_at_the_end(trained_run, caplog):
    russian = "Когда мы приехали"
    list(prepare_translation(trained_run.directory)([["uno dos", russian], [russian]]))
    messages = said_by_us(caplog)
    assert messages[0] == "6 of 8 source tokens are unknown to the model (75.00%)"
    assert messages[-1] == "the text is in Cyrillic letters, but the model translates from es"
    caplog.clear()
    list(prepare_translation(trained_run.directory)([["uno dos"]]))
    assert not any("unknown" in message or "letters" in message for message in said_by_us(caplog))


def test_unknown_shares_of_a_test_set_are_said(trained_run, tmp_path, caplog):
    (tmp_path / "x.es").write_text("uno dos\nveinte\n")
    (tmp_path / "x.en").write_text("one two\nfour\n")
    prepare_evaluation(trained_run.directory, source=tmp_path / "x.es", references=[tmp_path / "x.en"]).run()
    (said,) = (message for message in said_by_us(caplog) if "unknown" in message)
    assert said.startswith("unknown tokens in the test set: 33.33% of the source, 0.00% of the target: the model can")


def test_what_cannot_be_translated_is_refused_at_once(trained_run, tmp_path):
    with pytest.raises(CheckpointError, match="there is no such model directory"):
        prepare_translation(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"must be 1 to beam_size \(3\), got 4: set the beam size \(--beam-"):
        prepare_translation(trained_run.directory, num_hypotheses=4, overrides=["search.beam_size=3"])


def test_evaluate_scores_what_the_model_translates(trained_run, tmp_path):
    result = prepare_evaluation(trained_run.directory).run()
    assert result.evaluation.num_lines == len(result.hypotheses) == 5
    (tmp_path / "out").write_text("".join(f"{line}\n" for line in result.hypotheses))
    assert evaluate_files(tmp_path / "out", trained_run.reference) == result.evaluation


def test_a_test_set_is_read_or_missed(untrained_config):
    config = load(untrained_config)
    assert read_test_set(config).source_lines[0] == "uno dos tres"
    with pytest.raises(ConfigError, match=r"data\.test is not set for this model"):
        read_test_set(load(untrained_config, ["data.test=null"]))
    with pytest.raises(ConfigError, match="a test set has two sides"):
        read_test_set(config, source="a")
    with pytest.raises(ConfigError, match="a test set has two sides"):
        read_test_set(config, references=["a"])
    train = config.data.train
    given = read_test_set(config, source=train.source, references=[train.target, train.source])
    assert len(given.source_lines) == 15
    assert given.source_lines == given.references[1] != given.references[0]
    assert given.reference_paths == (train.target, train.source)
    with pytest.raises(DataError, match=r"same number of lines, got 15 in .*train\.es and 5 in .*test\.en"):
        read_test_set(config, source=train.source, references=[train.target, config.data.test.target])


def test_a_model_is_scored_against_several_references(trained_run):
    found = prepare_evaluation(trained_run.directory).run().hypotheses
    other = trained_run.reference.with_name("other.en")
    other.write_text("".join(f"{line}\n" for line in found))
    references = [trained_run.reference, other]
    result = prepare_evaluation(trained_run.directory, source=trained_run.source, references=references).run()
    assert result.evaluation.chrf2.score == pytest.approx(100)
    assert "nrefs:2" in result.evaluation.bleu.signature
    assert result.reference == (str(trained_run.reference), str(other))


def test_bleu_cuts_text_as_in_validations_unless_told(untrained_config, caplog):
    test_set = EvaluationSet((), (), ["uno"], [["你好，我喜欢车，是吗？"]])
    for setting, told, expected, word in (
        ("auto", None, "zh", ""),
        ("char", None, "char", ""),
        ("char", "intl", "intl", ""),
        ("null", None, "zh", "BLEU cuts text by zh here; validations of this run did by 13a"),
        ("null", "zh", "zh", ""),
    ):
        settings = ["data.target_language=zho", f"training.validation_tokenization={setting}"]
        assert tokenization_of(load(untrained_config, settings), test_set, told) == expected
        assert caplog.messages == ([word] if word else [])
        caplog.clear()


def test_check_config_reads_no_corpus(untrained_config):
    for path in untrained_config.parent.glob("train.*"):
        path.unlink()
    config, remarks = check_config([untrained_config])
    assert config.model.type == "rnn"
    assert len([remark for remark in remarks if remark.startswith("data.train.")]) == 2
