import io
import random
import re
from collections import Counter

import pytest
import sentencepiece

from nmt.errors import ConfigError, DataError
from nmt.text.sentencepiece_tokenizer import SentencePieceTokenizer
from nmt.text.tokenizer import sample_lines
from nmt.text.vocabulary import UNK_ID

KINDS = ["unigram", "bpe"]


def train(lines, model_type="unigram", vocabulary_size=150, **settings):
    settings = {"character_coverage": 1.0, "seed": 3, **settings}
    return SentencePieceTokenizer.learn(lines, model_type=model_type, vocabulary_size=vocabulary_size, **settings)


@pytest.mark.parametrize("model_type", KINDS)
def test_training_is_repeatable_and_silent(model_type, target_lines, capfd):
    first, second = (train(iter(target_lines), model_type) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.vocabulary.tokens == second.vocabulary.tokens
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("model_type", KINDS)
def test_a_wide_corpus_fills_the_vocabulary(model_type, target_lines):
    assert len(train(target_lines, model_type, 55).vocabulary) == 55


@pytest.mark.parametrize("model_type", KINDS)
@pytest.mark.parametrize("lines", [["a"], ["a b c", "a d"], ["ab ab"] * 50, ["日本"]])
def test_a_narrow_corpus_gives_fewer_pieces(model_type, lines):
    tokenizer = train(lines, model_type, 5000)
    assert 4 < len(tokenizer.vocabulary) < 40
    assert tokenizer.decode(tokenizer.encode(lines[0])) == lines[0]


@pytest.mark.parametrize("model_type", KINDS)
def test_a_vocabulary_smaller_than_the_alphabet_says_how_large_it_must_be(model_type):
    with pytest.raises(ConfigError, match=r"vocabulary_size must hold at least the characters .*, 9, got 6: raise it"):
        train(["a b c", "a d"], model_type, 6)
    assert len(train(["a b c", "a d"], model_type, 9).vocabulary) == 9


@pytest.mark.parametrize("lines", [[], ["", "  "], ["\0"]])
def test_no_text_is_an_error(lines):
    with pytest.raises(DataError, match="a tokenizer needs text to learn from, got only empty lines"):
        train(lines)


@pytest.mark.parametrize("model_type", KINDS)
def test_special_symbols_in_the_text_do_not_disturb_training(model_type, target_lines):
    tokenizer = train([*target_lines, *["<s> </s> <pad> <unk>"] * 300], model_type)
    assert tokenizer.vocabulary.tokens[:4] == ("<pad>", "<unk>", "<s>", "</s>")
    assert not {0, 2, 3} & set(tokenizer.encode("<s> </s> <pad>"))


def test_pieces_are_learned_from_lines_as_they_are():
    line = "full，width… 10² a\u200cb\u00a0!"
    tokenizer = train([line] * 3)
    assert tokenizer.decode(tokenizer.encode(f"  {line}\t")) == line
    assert tokenizer.decode(tokenizer.encode(f"full\u2028{line[4:]}")) == f"full {line[4:]}"


def test_a_small_corpus_is_not_sampled():
    assert sample_lines(iter("abc"), 3, seed=1) == ["a", "b", "c"]
    assert sample_lines(iter("ab"), 3, seed=1) == ["a", "b"]


def test_a_sample_is_repeatable_and_has_the_wanted_size():
    lines = [str(i) for i in range(1000)]
    sample = sample_lines(lines, 37, seed=4)
    assert len(set(sample)) == 37
    assert sample == sample_lines(iter(lines), 37, seed=4)
    assert sample != sample_lines(lines, 37, seed=5)


def test_each_line_has_the_same_chance_to_be_sampled():
    generator = random.Random(0)
    counts = Counter()
    for _ in range(3000):
        counts.update(sample_lines(range(10), 3, seed=generator.randrange(10**9)))
    # 900 expected of each, standard deviation 25
    assert all(780 < counts[i] < 1020 for i in range(10))


def test_a_model_with_other_special_ids_is_refused(target_lines):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(target_lines), model_writer=model, vocab_size=55, minloglevel=3
    )
    with pytest.raises(DataError, match="must begin with the pieces <pad> <unk> <s> </s>, got <unk> <s> </s>"):
        SentencePieceTokenizer(model.getvalue(), settings={})


@pytest.mark.parametrize("model_type", KINDS)
@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["x" * 100_000], "each line has more than 4,192 bytes or the character U+2585, and such lines are left out"),
        (["日" * 1398], "each line has more than 4,192 bytes"),
        (["a ▅ b"], "or the character U+2585"),
    ],
)
def test_text_that_the_library_leaves_out_is_said_in_our_words(model_type, lines, reason):
    with pytest.raises(DataError, match=f"cannot learn from this text: .*{re.escape(reason)}") as caught:
        train(lines, model_type)
    assert ".cc" not in str(caught.value)


def test_a_line_of_the_greatest_length_is_learned_from():
    assert len(train(["日" * 1397]).vocabulary) > 4


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("INTERNAL: src/trainer.cc(12) [size() > (0)] too small", "too small"),
        ("INTERNAL: src/trainer.cc(12) [a[0] > 1] ", "it gives no reason"),
        ("no memory", "no memory"),
    ],
)
def test_the_place_in_the_source_of_the_library_is_not_shown(monkeypatch, message, reason):
    def fail(**options):
        raise RuntimeError(message)

    monkeypatch.setattr(sentencepiece.SentencePieceTrainer, "train", fail)
    with pytest.raises(DataError, match=f"text: {reason}$"):
        train(["a b"])


@pytest.mark.parametrize("model_type", KINDS)
def test_bytes_spell_what_has_no_piece(model_type, target_lines):
    with_bytes = train(target_lines, model_type, 400, byte_fallback=True)
    without = train(target_lines, model_type, 400)
    line = f"{target_lines[0]} 你 <0x41> 🦄"
    assert UNK_ID in without.encode(line)
    assert UNK_ID not in with_bytes.encode(line)
    assert with_bytes.decode(with_bytes.encode(line)) == line
    known = with_bytes.encode(target_lines[0])
    assert with_bytes.encode(line)[: len(known)] == known
    first = with_bytes.vocabulary.id("<0x00>")
    assert with_bytes.tokens(range(first, first + 256)) == [f"<0x{byte:02X}>" for byte in range(256)]
    cut_short = [first + byte for byte in "a你".encode()[:-1]]
    assert with_bytes.decode(cut_short).startswith("a\N{REPLACEMENT CHARACTER}")
    adopted = SentencePieceTokenizer(with_bytes.model, settings={})
    assert adopted.encode_batch([line]) == [with_bytes.encode(line)]
