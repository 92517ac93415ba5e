import logging
from typing import get_args

import pytest
from sacrebleu.metrics import BLEU

from nmt.scoring.evaluation import (
    bleu,
    choose_tokenization,
    doubt_about,
    earlier_tokenization,
    evaluate_lines,
    tokenization_of_language,
    writing_of,
)
from nmt.settings.training import Tokenization

WITHOUT_SPACES = {
    "zh": "你好，我喜欢车，是吗？",
    "ja": "私は車が好きです。東京都へ行きました。",
    "ja-Kana": "ｶﾀｶﾅﾃﾞｽ",
    "th": "ฉันชอบรถยนต์ เราไปกรุงเทพ",
    "lo": "ຂ້ອຍມັກລົດ",
    "km": "ខ្ញុំចូលចិត្តឡាន",
    "my": "ကျွန်တော် ကားကြိုက်တယ်",
    "bo": "ང་རྣམས་ལྷ་སར་འགྲོ།",
    "zh-x-terms": "我们用PyTorch训练Transformer模型",
}
WITH_SPACES = (
    "I like cars", "Я люблю машины", "나는 자동차를 좋아합니다", "वह कार पसंद करता है", "Tôi thích xe",
    "أحب السيارات", "Meet 王小明 and 李四 in Beijing tomorrow", "1 + 1 = 2", "",
)  # fmt: skip


@pytest.mark.parametrize(
    ("tokenization", "codes"),
    [
        (
            "zh",
            "zh zho chi cmn yue zt zh_TW zh-CN zh_CN.UTF-8 ZH cmn_Hans zho_Hant yue-Hant-HK zh-cmn-Hans-CN nan_Hant",
        ),
        ("char", "ja jpn ja_XX ja_JP jpn_Jpan th tha th_TH tha_Thai lo lao km khm khm_Khmr my mya mya_Mymr bod dzo"),
        ("13a", "zh-Latn zh-Latn-pinyin ja_Latn nan_Latn kor_Hang srp_Cyrl ace_Arab"),
        (None, "en de ko vi nan hak Chinese jp cn xx"),
    ],
)
def test_a_code_says_how_text_is_cut_or_nothing(tokenization, codes):
    assert {code: tokenization_of_language(code) for code in codes.split()} == dict.fromkeys(
        codes.split(), tokenization
    )


def test_version_0_1_0_knew_six_codes():
    codes = "zh zh_TW ja TH lo km my zho cmn_Hans zt yue jpn tha mya zh-Latn de"
    found = [earlier_tokenization(code) for code in codes.split()]
    assert found == ["zh", "zh", *["char"] * 5, *["13a"] * 7, "zh", "13a"]


@pytest.mark.parametrize("line", WITHOUT_SPACES.values())
def test_text_without_spaces_equals_itself(line, caplog):
    """By 13a such a line is one or two words, too few for BLEU, and that is said; by the script it scores 100."""
    assert bleu([line], [line], tokenization="13a").score == 0.0
    assert evaluate_lines([line], [line], tokenization="13a").bleu.score == 0.0
    assert "BLEU cuts text by 13a, which does not find the words of the references" in caplog.text
    caplog.clear()
    assert evaluate_lines([line], [line]).bleu.score == pytest.approx(100)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "as suits the script of the references: no language is given" in caplog.text


@pytest.mark.parametrize("line", WITH_SPACES)
def test_text_with_spaces_is_cut_by_13a_without_a_word(line, caplog):
    whole = f"{line} {line}".strip()  # of four words or more
    assert "tok:13a" in evaluate_lines([whole], [whole]).bleu.signature
    assert choose_tokenization([line], language="xx") == ("13a", "")
    assert not caplog.records


def test_what_a_code_says_goes_first_and_is_doubted_where_the_script_differs():
    chinese, english = [WITHOUT_SPACES["zh"]], ["I like cars"]
    assert choose_tokenization(chinese, language="zho") == ("zh", "")
    assert choose_tokenization(["123"], language="zho") == ("zh", "")
    assert choose_tokenization(chinese, language="en")[0] == "zh"
    assert "the language en says nothing about it" in choose_tokenization(chinese, language="en").remark
    assert choose_tokenization(english, language="jpn")[0] == "char"
    assert "suits jpn, but the references are in another script" in choose_tokenization(english, language="jpn").remark


def test_words_between_spaces_are_found():
    for line in ("我 喜欢 红色 的 车 。", "ฉัน ชอบ รถยนต์ สี แดง"):
        assert not writing_of([line]).few_spaces
        assert doubt_about("none", [line]) == doubt_about("13a", [line]) == ""
    assert doubt_about("zh", [WITHOUT_SPACES["zh"]]) == doubt_about("char", [WITHOUT_SPACES["zh"]]) == ""
    assert "by zh, which does not find" in doubt_about("zh", [WITHOUT_SPACES["th"]])


def test_settings_name_what_sacrebleu_knows():
    assert set(get_args(Tokenization)) - {"auto"} <= set(BLEU.TOKENIZERS)
