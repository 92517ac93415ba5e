"""Links between the words of a translation and those of its source, read from attention."""

import numpy as np
import pytest

from nmt.alignment.bitext import cut_spans
from nmt.inference.alignment import memberships, word_weights
from nmt.inference.translator import Translator
from nmt.models.forced import ReadOut
from nmt.text import BOS_ID, EOS_ID

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
