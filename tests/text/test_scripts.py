import pytest

from nmt.text.marks import foreign_script, in_words, scripts_of_language

TEXTS = {
    "en": "When we arrived, the carpet was dirty.",
    "ru": "Когда мы приехали, ковёр был грязным.",
    "zh": "你好，我喜欢车，是吗？我们到达的时候，地毯是脏的，请换一个房间。",
    "ja": "私たちが到着したとき、カーペットは汚れていました。",
    "ko": "우리가 도착했을 때 카펫이 더러웠습니다.",
    "ar": "عندما وصلنا، كانت السجادة متسخة.",
    "he": "כשהגענו, השטיח היה מלוכלך.",
    "el": "Όταν φτάσαμε, το χαλί ήταν βρώμικο.",
    "hi": "जब हम पहुँचे तो कालीन गंदा था, और कमरा ठंडा था।",
    "th": "เมื่อเรามาถึง พรมสกปรก",
}


@pytest.mark.parametrize("language", TEXTS)
def test_text_of_another_script_is_foreign_and_its_own_is_not(language):
    for other, text in TEXTS.items():
        mixed = {language, other} == {"zh", "ja"}  # both write Han
        found = foreign_script([text] * 3, language)
        if other == language or (mixed and language == "ja"):
            assert found is None
        elif not mixed:
            assert found in scripts_of_language(other)


def test_a_script_in_the_code_decides_and_an_unknown_code_says_nothing():
    assert scripts_of_language("zh_Hant") == scripts_of_language("zho") == {"HAN"}
    assert scripts_of_language("zh-Latn-pinyin") == scripts_of_language("srp_Latn") == {"LATIN"}
    for unknown in ("sr", "xx", "kk", ""):
        assert foreign_script([TEXTS["ru"], TEXTS["en"]], unknown) is None


def test_few_letters_and_some_foreign_words_are_nothing():
    assert foreign_script(["OK, 2024!", "", "..."], "ja") is None
    assert foreign_script([TEXTS["ru"] + " " + TEXTS["en"]], "ru") is None
    assert foreign_script([], "ru") is None
    assert (in_words("CYRILLIC"), in_words("HAN")) == ("Cyrillic letters", "Chinese characters")
