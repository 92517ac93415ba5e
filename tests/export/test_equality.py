"""What counts as equal: scores within a tolerance, and greedy translations that part only at ties."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

from nmt.errors import ExportError
from nmt.export.ctranslate2_export import Agreement, SamplePair, check_agreement, measure_agreement
from nmt.text import EOS_ID, TextPair, Vocabulary, WhitespaceTokenizer

VOCABULARY = Vocabulary(["<pad>", "<unk>", "<s>", "</s>", "a", "b", "c"])
TOKENIZER = WhitespaceTokenizer(VOCABULARY)
TEXT = TextPair(source=TOKENIZER, target=TOKENIZER, joint=True)


class TableModel:
    """Its logits for the next token depend on the last one only, by a table (V, V)."""

    vocabularies = SimpleNamespace(target_size=7)

    def __init__(self, table):
        self.table = np.asarray(table, dtype=np.float32)

    def __call__(self, inputs):
        return ops.take(ops.convert_to_tensor(self.table), inputs[1], axis=0)


class TableEngine:
    """Scores by a table, translates to what it is told."""

    def __init__(self, table, written):
        self.log_probs = table - np.log(np.exp(table).sum(axis=1, keepdims=True))
        self.written = written

    def score_batch(self, sources, targets, **options):
        for target in targets:
            ids = [2, *(VOCABULARY.id(token) for token in target), EOS_ID]
            pairs = itertools.pairwise(ids)
            yield SimpleNamespace(log_probs=[self.log_probs[last, following] for last, following in pairs])

    def translate_batch(self, sources, **options):
        return [SimpleNamespace(hypotheses=[self.written]) for _ in sources]


def table():
    generator = np.random.default_rng(4)
    values = generator.normal(0.0, 0.1, (7, 7))
    for last, following in ((2, 4), (4, 6), (6, 3)):  # <s> a c </s>
        values[last, following] = 2.0
    values[:, [0, 2]] = 5.0  # the model's favourites, never written
    return values


SAMPLE = [SamplePair([4, 5], [5, 6, 4]), SamplePair([6], [4])]


def test_differences_are_those_of_the_tokens():
    theirs = table()
    theirs[5] += np.array([0, 0, 0, 0, 0, 0, 0.5])  # after "b", which only the first pair has
    agreement = measure_agreement(
        TableModel(table()), TableEngine(theirs, ["a", "c", "</s>"]), TEXT, SAMPLE, tolerance=0.01
    )

    def log_probs(values, ids):
        normalised = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
        return np.array([normalised[last, following] for last, following in itertools.pairwise(ids)])

    differences = np.abs(log_probs(table(), [2, 5, 6, 4, 3]) - log_probs(theirs, [2, 5, 6, 4, 3]))
    assert differences.max() > 0.1
    assert agreement.greatest_token_difference == pytest.approx(differences.max(), rel=1e-4)
    assert agreement.greatest_pair_difference == pytest.approx(differences.mean(), rel=1e-4)
    assert agreement.mean_difference == pytest.approx(differences.sum() / 6, rel=1e-4)
    assert (agreement.num_pairs, agreement.identical_lines, agreement.tied_lines) == (2, 2, 0)


@pytest.mark.parametrize(("gap", "expected"), [(0.0, (2, 0)), (0.015, (0, 2)), (0.025, (0, 0))])
def test_lines_part_at_ties_or_differ(gap, expected):
    values = table()
    values[4, 5] = values[4, 6] - gap  # after "a", "b" instead of "c"
    values[5, 3] = 3.0
    agreement = measure_agreement(
        TableModel(values), TableEngine(values, ["a", "b", "</s>"]), TEXT, SAMPLE, tolerance=0.01
    )
    assert (agreement.identical_lines, agreement.tied_lines) == expected


def test_a_favourite_that_may_not_be_written_makes_no_difference():
    values = table()
    values[:, 1] = 4.0  # <unk>
    engine = TableEngine(values, ["a", "c", "</s>"])
    for banned, identical in (((), 0), ((1,), 2)):
        agreement = measure_agreement(TableModel(values), engine, TEXT, SAMPLE, tolerance=0.01, banned=banned)
        assert (agreement.identical_lines, agreement.tied_lines) == (identical, 0)


def test_what_is_not_equal_enough_is_refused():
    good = Agreement(200, 1e-4, 1e-3, 0.5, identical_lines=197, tied_lines=1)
    check_agreement(good, tolerance=1e-3)
    for difference in (1.1e-3, math.nan):
        with pytest.raises(ExportError, match=r"must agree within 0\.001 a token, but the log probabilities"):
            check_agreement(good._replace(greatest_pair_difference=difference), tolerance=1e-3)
    with pytest.raises(ExportError, match=r"must translate 99% of the sample lines alike, .* but do so for 197 of 200"):
        check_agreement(good._replace(tied_lines=0), tolerance=1e-3)
