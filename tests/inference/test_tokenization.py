import pytest

from nmt.inference.evaluation import bleu
from nmt.inference.tokenization import tokenization_for


@pytest.mark.parametrize(
    ("language", "expected"),
    [("en", "13a"), ("zh", "zh"), ("zh_TW", "zh"), ("ja", "char"), ("TH", "char"), ("de", "13a")],
)
def test_the_language_decides_how_text_is_cut(language, expected):
    assert tokenization_for(language) == expected


def test_text_without_spaces_has_a_bleu():
    hypotheses, references = ["我家里有一只大猫和一只狗"], ["我家里有一只小猫和一只狗"]
    assert bleu(hypotheses, references).score == 0.0
    assert bleu(hypotheses, references, tokenization=tokenization_for("zh")).score > 50.0
