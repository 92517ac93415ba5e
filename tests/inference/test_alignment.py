"""Links between the words of a translation and those of its source, read from attention."""

import logging

import numpy as np
import pytest

from nmt.alignment.bitext import cut_spans
from nmt.alignment.links import SYMMETRIZATIONS
from nmt.errors import ConfigError, DataError
from nmt.inference import alignment as module
from nmt.inference.alignment import links_of, memberships, word_weights
from nmt.inference.translator import Translator
from nmt.models.contract import Seq2Seq
from nmt.models.forced import ReadOut
from nmt.text import BOS_ID, EOS_ID, UNK_ID, CharacterTokenizer

pytestmark = pytest.mark.usefixtures("eagerly")

PAIRS = [("uno dos  tres", "one two three"), ("", "one"), ("siete", "seven, eight"), ("cinco seis uno dos", "five")]


@pytest.fixture(scope="module")
def translators(transformer_run, trained_run):
    return {"transformer": Translator.load(transformer_run.directory), "rnn": Translator.load(trained_run.directory)}


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_every_token_looks_at_real_tokens(translators, kind):
    translator = translators[kind]
    together = translator.align(PAIRS, soft=True)
    for pair, alignment in zip(PAIRS, together, strict=True):
        assert (alignment.source, alignment.target) == pair
        for line, words in ((alignment.source, alignment.source_words), (alignment.target, alignment.target_words)):
            assert [line[start:end] for start, end in words] == line.split()
        assert alignment.links == tuple(sorted(set(alignment.links)))
        if not pair[0]:
            assert (alignment.links, alignment.soft) == ((), None)
            continue
        soft = alignment.soft
        assert soft.tokens.shape == (len(soft.target_tokens), len(soft.source_tokens))
        assert soft.source_tokens[-1] == "</s>"
        assert soft.target_tokens[-1] != "</s>"
        assert soft.tokens.sum(axis=1) == pytest.approx(1.0, abs=1e-5)  # nothing is lost on padding
        assert soft.token_links == links_of(soft.tokens[:, :-1]) == alignment.links  # here each word is a token
        (alone,) = translator.align([pair], soft=True)
        assert alone.soft.tokens == pytest.approx(soft.tokens, abs=1e-5)
        assert alone.links == alignment.links


def steps_of(model, source_ids, target_ids):
    """The attention of each step of a decoder that is given the target, found by what a step looks at."""
    seen = []
    memory, place = model.encode(np.array([source_ids])), 0
    state = model.initial_state(memory, 1, len(target_ids) + 1)
    layers = [model.alignment] if hasattr(model, "alignment") else [b.cross_attention for b in model.decoder_blocks]
    for layer in layers:
        own = layer.call if hasattr(model, "alignment") else layer.look

        def watched(*arguments, _own=own, **named):
            found = _own(*arguments, **named)
            seen.append(np.array(found[1] if isinstance(found, tuple) else found))
            return found

        setattr(layer, "call" if hasattr(model, "alignment") else "look", watched)
    try:
        for place in [BOS_ID, *target_ids]:
            _, state = model.hidden_step(np.array([[place]]), state, memory)
    finally:
        for layer in layers:
            delattr(layer, "call" if hasattr(model, "alignment") else "look")
    return [seen[start :: len(layers)] for start in range(len(layers))]


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
@pytest.mark.parametrize("shift", [False, True])
def test_a_pass_looks_as_the_steps_of_the_decoder_do(translators, kind, shift):
    translator = translators[kind]
    source, target = PAIRS[0]
    ids = translator.text.source.encode(source), translator.text.target.encode(target)
    steps = steps_of(translator.model, [*ids[0], EOS_ID], ids[1])
    rows = [step[0].reshape(-1, step.shape[-1]) for step in steps[0]]  # (H, S) each, or (1, S)
    rows = np.array(rows[1:] if shift else rows[:-1])
    (alignment,) = translator.align([(source, target)], read_out=ReadOut(shift=shift), soft=True)
    assert alignment.soft.tokens == pytest.approx(rows.mean(axis=1), abs=1e-5)
    if kind == "transformer":
        for head in (1, 2):
            (alignment,) = translator.align([(source, target)], read_out=ReadOut(1, head, shift), soft=True)
            assert alignment.soft.tokens == pytest.approx(rows[:, head - 1], abs=1e-5)


def test_tokens_give_their_attention_to_the_words_that_they_are_in():
    # "ab cd, e" cut into "ab", " c", "d,", " ", "e"
    spans, words = [(0, 2), (2, 4), (4, 6), (6, 7), (7, 8)], cut_spans("ab cd, e")
    shares = memberships(spans, words)
    assert shares.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1], [0, 0, 0, 1]]
    generator = np.random.default_rng(3)
    tokens = generator.dirichlet(np.ones(6), size=3).astype(np.float32)  # of three tokens, to five and EOS
    target = memberships([(0, 1), (1, 2), (3, 4)], [(0, 2), (3, 4), (4, 4)])
    found = word_weights(tokens, shares, target)
    expected = np.zeros((3, 4))
    for word, members in enumerate([[0, 1], [2], []]):
        for token in members:
            for place, weight in enumerate(tokens[token, :-1]):
                expected[word] += weight * shares[place] / len(members)
    assert found == pytest.approx(expected, abs=1e-6)


def test_words_are_linked_that_share_most_attention():
    weights = np.random.default_rng(7).dirichlet(np.full(5, 0.3), size=7).astype(np.float32)[:, :4]  # (J, I), and EOS
    shared = [[weights[j, i] ** 2 / weights[:, i].sum() for i in range(4)] for j in range(7)]
    forward = {(max(range(4), key=lambda i: shared[j][i]), j) for j in range(7)}
    backward = {(i, max(range(7), key=lambda j: shared[j][i])) for i in range(4)}
    assert forward != backward
    for name, symmetrize in SYMMETRIZATIONS.items():
        assert links_of(weights, name) == tuple(sorted(symmetrize(forward, backward)))
    weights[2], weights[:, 1] = 0.0, 0.0  # a word behind what was read, and one that nobody looks at
    assert not {(1, 2)} & set(links_of(weights, "union"))
    assert {i for i, _ in links_of(weights, "union")} == {0, 2, 3}


def test_layer_0_is_the_mean_of_all(build):
    model = build(vocabularies=None)
    model.decoder_blocks = [*model.decoder_blocks, *build(seed=5).decoder_blocks]
    source, target = np.array([[4, 5, 6, 3]]), np.array([[2, 7, 8]])
    layers = [np.array(model.attention(source, target, layer=layer, head=2)) for layer in (1, 2)]
    assert np.array(model.attention(source, target, layer=0, head=2)) == pytest.approx(sum(layers) / 2, abs=1e-6)
    assert np.array(model.attention(source, target, head=2)) == pytest.approx(layers[1], abs=1e-6)


def test_ids_and_text_of_a_target_have_one_alignment(translators):
    translator = translators["transformer"]
    ids = translator.text.target.encode(PAIRS[0][1])
    by_text, by_ids = translator.align([PAIRS[0], (PAIRS[0][0], [*ids, EOS_ID])], soft=True)
    assert by_ids.target_words == by_text.target_words
    assert by_ids.links == by_text.links
    assert by_ids.soft.target_spans == by_text.soft.target_spans


def test_unknown_tokens_become_the_words_that_they_look_at(translators, caplog):
    translator = translators["transformer"]
    source, one = "Uno foo dos", translator.text.target.vocabulary.id("one")
    ids = [UNK_ID, one, UNK_ID, UNK_ID]
    (plain,) = translator.align([(source, ids)], soft=True)
    assert plain.target == "<unk> one <unk> <unk>"
    assert plain.replaced == ()
    words = [source.split()[row.argmax()] for row in plain.soft.tokens[:, :-1]]
    caplog.set_level(logging.INFO)
    known = {words[0].lower(): "a b"}
    (alignment,) = translator.align([(source, ids)], unknown=known, soft=True)
    written = [known.get(word, known.get(word.lower(), word)) for word in words]
    assert alignment.target == f"{written[0]} one {written[2]} {written[3]}"
    assert [alignment.target[start:end] for start, end in alignment.target_words] == alignment.target.split()
    tokens = [alignment.target[start:end] for start, end in alignment.soft.target_spans]
    assert tokens == [written[0], "one", *written[2:]]
    hits = [word.lower() in known for word in (words[0], *words[2:])]
    assert alignment.replaced == tuple(hits)
    said = f"3 unknown tokens replaced: {sum(hits)} by the dictionary, {3 - sum(hits)} by the source word"
    assert said in caplog.text


def test_an_ensemble_aligns_by_those_that_cut_the_source_alike(translators, transformer_run, trained_run, caplog):
    both = Translator.load(transformer_run.directory, trained_run.directory, member_weights=[1.0, 3.0])
    alone = [translators[kind].align(PAIRS[:1], soft=True)[0].soft.tokens for kind in ("transformer", "rnn")]
    assert both.align(PAIRS[:1], soft=True)[0].soft.tokens == pytest.approx(0.25 * alone[0] + 0.75 * alone[1], abs=1e-5)
    other = CharacterTokenizer(both.text.source.vocabulary)
    mixed = Translator(both.model, both.text, sources=[both.text.source, other])
    caplog.set_level(logging.INFO)
    assert mixed.align(PAIRS[:1], soft=True)[0].soft.tokens == pytest.approx(alone[0], abs=1e-5)
    assert "by 1 of 2 models" in caplog.text


def test_nothing_is_cut_in_silence(translators, monkeypatch, caplog):
    monkeypatch.setattr(module, "MAX_SOURCE_LENGTH", 2)
    (alignment,) = translators["transformer"].align([("uno dos tres cuatro", "one two three")])
    assert alignment.cut
    assert len(alignment.source_words) == 4
    assert len(alignment.target_words) == 3
    assert {target for _, target in alignment.links} <= {0, 1}
    assert "1 of 1 pairs have a side longer than 2 tokens" in caplog.text


def test_what_cannot_be_aligned_is_refused(translators):
    transformer, rnn = translators.values()
    for translator, read_out, words in (
        (transformer, ReadOut(layer=2), "layers of the decoder are 1 to 1, and 0 is the mean of all, got 2"),
        (transformer, ReadOut(head=3), "heads of each layer are 1 to 2, got 3"),
        (rnn, ReadOut(layer=1), "a recurrent model has one attention"),
    ):
        with pytest.raises(ConfigError, match=words):
            translator.align(PAIRS, read_out=read_out)
    with pytest.raises(DataError, match="ids of target 1 must be"):
        transformer.align([("uno", [2])])
    with pytest.raises(ConfigError, match=r"made one by .*, got grow"):
        transformer.align(PAIRS, symmetrization="grow")
    with pytest.raises(ConfigError, match="aligned by a Seq2Seq"):
        Translator(object(), transformer.text).align(PAIRS)
    with pytest.raises(ConfigError, match="words that bpe cut before"):
        Translator(transformer.model, transformer.text, segmentation="bpe").align([])
    with pytest.raises(ConfigError, match="attention of Model cannot be read"):
        Seq2Seq.attention(type("Model", (), {})(), None, None)
