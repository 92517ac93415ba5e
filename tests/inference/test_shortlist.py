"""A search in a part of the vocabulary: what it may write, what it must still do, and what is as in all of it."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

from nmt.config import SearchSettings
from nmt.control.controls import NO_CONTROL, Control, Sampling
from nmt.control.shortlist import Columns, Shortlist, learn
from nmt.errors import ConfigError, DataError
from nmt.inference.translator import Translator, vocabularies_of
from nmt.models.ensemble import Ensemble
from nmt.models.narrowed import Narrowed, Part
from nmt.search import beam_search
from nmt.search.rules import Sampled
from nmt.text import BOS_ID, EOS_ID, PAD_ID, UNK_ID, CharacterTokenizer, TextPair, Vocabulary, WhitespaceTokenizer
from nmt.translation.ctranslate2_engine import refuse_request
from nmt.translation.line_translator import Request
from tests import tiny

pytestmark = pytest.mark.usefixtures("eagerly")

LINES = ["ca", "abcab"]
IDS = {"pad_id": PAD_ID, "bos_id": BOS_ID, "eos_id": EOS_ID}


@pytest.fixture(scope="module")
def text():
    return TextPair.learn(CharacterTokenizer, ["abc"], ["xyz xyz"], joint=False, vocabulary_size=None, minimum_count=1)


@pytest.fixture(scope="module")
def model(text):
    made = tiny.build(tiny.TRANSFORMER, vocabularies=vocabularies_of(text), tie_embeddings="none", seed=3)
    for variable in made.trainable_variables:
        variable.assign(3.0 * variable)
    return made


def shortlist(text, best=(), frequent=()):
    """What each source token makes likely, by its text, and what is frequent."""
    vocabulary = text.source.vocabulary
    table = np.full((len(vocabulary), 2), EOS_ID, np.int32)
    for token, targets in dict(best).items():
        table[vocabulary.id(token), : len(targets)] = [text.target.vocabulary.id(each) for each in targets]
    of_all = np.array([text.target.vocabulary.id(each) for each in frequent], np.int32)
    return Shortlist(table, of_all, len(text.target.vocabulary), tuple(text.fingerprints))


def n_best(model, text, of, search=(), count=2, lines=LINES, **asked):
    settings = SearchSettings(
        **{"beam_size": 2, "max_length": 4, "allow_unknown": False, "shortlist": of is not None, **dict(search)}
    )
    if "control" in asked:
        asked["controls"] = [asked.pop("control")] * len(lines)
    return Translator(model, text, settings, shortlist=of).n_best(lines, count, token_scores=True, **asked)


@pytest.mark.parametrize(
    ("search", "asked"),
    [
        ({}, {}),
        ({"beam_size": 1}, {"count": 1}),
        ({"no_repeat_ngram": 2, "repetition_penalty": 1.3}, {"control": Control(("xz",), ("zz", "yy"), "x")}),
        ({"diverse_groups": 2}, {}),
        ({}, {"sampling": Sampling(seed=5, top_k=4, top_p=0.9)}),
    ],
    ids=["beam", "greedy", "rules", "groups", "samples"],
)
def test_the_whole_vocabulary_as_a_shortlist_changes_nothing(model, text, search, asked):
    whole = shortlist(text, frequent=text.target.vocabulary.tokens)
    both = [n_best(model, text, of, search, lines=LINES[1:], **asked) for of in (None, whole)]
    for plain, narrowed in zip(*both, strict=True):
        assert [each.text for each in plain] == [each.text for each in narrowed] != []
        assert [each.tokens for each in plain] == [each.tokens for each in narrowed]
        np.testing.assert_allclose([each.score for each in plain], [each.score for each in narrowed], rtol=1e-5)
        assert {each.shortlist for each in plain} == {False}
        assert {each.shortlist for each in narrowed} == {True}


BEST = {"a": ["x"], "b": ["y", "z"]}


@pytest.mark.parametrize("kind", ["transformer", "ensemble"])
def test_each_line_has_its_own_tokens_whatever_its_batch(model, text, kind):
    if kind == "ensemble":
        model = Ensemble([model, tiny.build(tiny.RNN, vocabularies=vocabularies_of(text), tie_embeddings="none")])
    of = shortlist(text, BEST, frequent=["▁"])
    lines = ["aa", "bb"]
    together = n_best(model, text, of, lines=lines)
    written = ["".join({*"".join(each.text for each in line)} - {" "}) for line in together]
    assert set(written[0]) == {"x"}
    assert set(written[1]) <= {"y", "z"} != set()
    for line, found in zip(lines, together, strict=True):
        ((*alone,),) = n_best(model, text, of, lines=[line])
        assert [each.text for each in alone] == [each.text for each in found]
        np.testing.assert_allclose([each.score for each in alone], [each.score for each in found], rtol=1e-5)


@pytest.mark.parametrize("control", [Control(require=("zy",)), Control(prefix="zy")])
def test_what_is_asked_for_stands_there_though_it_is_not_in_the_shortlist(model, text, control):
    for line in n_best(model, text, shortlist(text, {"a": ["x"]}), control=control):
        assert line
        assert all("zy" in each.text for each in line)
        assert not any(each.flags and "unsatisfied" in each.flags for each in line)


def test_the_translation_of_a_hint_can_be_written(model, text):
    """Also where it begins a sentence; the engine whose lists are made before it runs refuses both together."""
    translator = Translator(model, text, SearchSettings(max_length=5, shortlist=True))
    translator.shortlist = shortlist(text, {"a": ["x"]})
    written = list[set[str]]()
    for control in (NO_CONTROL, Control(hints=(("a", "zy", False),))):
        request = Request(([*text.source.encode("a"), EOS_ID],), 1, 5, control)
        columns = translator._columns([request], translator.search)
        written.append({text.target.vocabulary.tokens[each] for each in columns.token_ids[columns.allowed[0]]})
    assert not written[0] & {"z", "y"}
    assert written[1] >= {"x", "z", "y"}
    with pytest.raises(ConfigError, match="cannot have hints with a shortlist: use --engine keras"):
        refuse_request(control, None, translator.search)


def test_it_finds_the_best_of_all_sequences_of_allowed_tokens():
    """The model is made by hand: its logits depend on sentence and newest token."""
    sizes = {"B": 2, "V": 9, "T": 4}
    generator = np.random.default_rng(7)
    table = generator.normal(size=(sizes["B"], sizes["V"], sizes["V"])).astype("float32") * 2
    bias = generator.normal(size=sizes["V"]).astype("float32")
    by_hand = SimpleNamespace(
        encode=ops.convert_to_tensor,
        initial_state=lambda memory, beam_size, most: (),
        hidden_step=lambda ids, state, memory: (ops.take_along_axis(memory, ids[:, :, None], axis=1), state),
        output_projection=SimpleNamespace(embeddings=ops.eye(sizes["V"])),
        output_bias=ops.convert_to_tensor(bias),
    )
    listed = np.zeros((2, sizes["V"]), bool)
    listed[:, :4] = listed[0, [5, 8]] = listed[1, [5, 6, 7]] = True
    columns = Columns(listed, least=70)
    assert len(columns.token_ids) == 128
    part = Part(ops.convert_to_tensor(columns.token_ids), ops.convert_to_tensor(columns.allowed))
    narrowed = Narrowed(by_hand, part)
    result = beam_search(
        narrowed.decoder(), (), memory=narrowed.encode(table), batch_size=2, beam_size=40, max_length=sizes["T"], **IDS
    )
    for row, own in enumerate(listed):
        tokens = [token for token in np.flatnonzero(own) if token not in (PAD_ID, BOS_ID, EOS_ID)]
        scored = []
        for length in range(1, sizes["T"] + 1):
            for body in itertools.product(tokens, repeat=length - 1):
                log_prob = 0.0
                for before, token in itertools.pairwise((BOS_ID, *body, EOS_ID)):
                    logits = np.where(own, table[row, before] + bias, -np.inf)
                    log_prob += logits[token] - np.log(np.exp(logits).sum())
                scored.append((log_prob / length, [*map(int, body), EOS_ID]))
        scored.sort(reverse=True)
        for rank in range(5):
            found = part.tokens(result.token_ids)[row, rank, : result.lengths[row, rank]]
            assert np.asarray(found).tolist() == scored[rank][1]
            np.testing.assert_allclose(result.scores[row, rank], scored[rank][0], rtol=1e-4)


def test_a_draw_needs_no_token_that_is_never_drawn():
    scores = ops.log_softmax(ops.convert_to_tensor([[[0.0, 1.0, 2.0]]]))
    view = SimpleNamespace(length=1, min_length=np.zeros(1), max_length=np.full(1, 9), state=np.zeros((1, 1), "int32"))
    lowered = Sampled(np.full((1, 9), 0.99, "float32"), never=(), eos_id=0).lower(scores, view)
    assert np.isfinite(lowered).tolist() == [[[False, False, True]]]


PAIRS = [("uno dos", "one two"), ("dos", "two"), ("tres uno", "three one"), ("tres", "three"), ("uno", "one")]


@pytest.fixture(scope="module")
def words():
    sides = zip(*PAIRS, strict=True)
    return TextPair.learn(WhitespaceTokenizer, *sides, joint=False, vocabulary_size=None, minimum_count=1)


@pytest.fixture(scope="module")
def learned(words):
    pairs = [(source.split(), target.split()) for source, target in PAIRS * 20]
    return learn(pairs, words, best=2, frequent=1, max_length=9)


def test_the_best_tokens_are_the_translations(words, learned):
    source, target = words.source.vocabulary, words.target.vocabulary
    for word, translation in {"uno": "one", "dos": "two", "tres": "three"}.items():
        assert learned.best[source.id(word), 0] == target.id(translation)
    assert learned.best[source.id("dos")].tolist() == [target.id("two"), target.id("one")]
    assert set(learned.best[UNK_ID]) == {EOS_ID}
    assert learned.frequent.tolist() == [target.id("one")]


def test_it_comes_back_from_its_file_and_fits_no_other_tokenizers(words, text, learned, tmp_path):
    with pytest.raises(ConfigError, match=r"there is no .*shortlist.npz: build it with nmt build-shortlist"):
        Shortlist.load(tmp_path, words)
    path = learned.save(tmp_path)
    again = Shortlist.load(tmp_path, words)
    for name, value in vars(learned).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    with pytest.raises(DataError, match="was made for other tokenizers"):
        Shortlist.load(tmp_path, text)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="is no shortlist, or damaged"):
        Shortlist.load(tmp_path, words)


def test_the_map_of_ctranslate2_has_a_line_for_all_and_one_for_each_source_token(words, learned):
    lines = dict(line.split("\t") for line in learned.vocabulary_map(words).splitlines())
    assert lines[""] == "one"
    assert lines["dos"].split() == ["two", "one"]
    assert lines["<unk>"] == ""
    assert set(lines) == {"", *words.source.vocabulary.tokens}
    other = Vocabulary([*words.target.vocabulary.tokens[:4], "a b", "c", "d"])
    spaced = TextPair(words.source, WhitespaceTokenizer(other), joint=False)
    assert learned.vocabulary_map(spaced) is None


def test_a_search_without_a_shortlist_or_with_other_rules_is_refused(model, text):
    settings = SearchSettings(shortlist=True)
    with pytest.raises(ConfigError, match="needs a shortlist: build one"):
        Translator(model, text, settings).translate(["a"])
    rule = Sampled(np.zeros((1, 1)), never=(), eos_id=EOS_ID)
    with pytest.raises(ConfigError, match="without rules of your own"):
        Translator(model, text, settings, rules=[rule], shortlist=shortlist(text)).translate(["a"])
