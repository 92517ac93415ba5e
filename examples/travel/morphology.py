"""Agreement and plurals: the little Spanish and English morphology that the rules need.

Spanish words agree in gender ("m" or "f") and number; English ones in number only. Regular forms are computed,
the rest are in tables, so that a rule names a word once, in the masculine singular (or the third person singular).
"""

from __future__ import annotations

VOWELS = "aeiouáéíóú"
PREPOSITIONS = frozenset({"de", "del", "con", "sin", "para", "a", "al", "y", "en"})
"""A Spanish noun of several words is plural up to the first of these: *billetes de ida*."""
TARGET_PREPOSITIONS = frozenset({"of", "with", "to", "for"})
STRESSED_A = frozenset({"agua", "área"})
"""Feminine nouns that take *el* and *un* in the singular."""

SPANISH_FORMS = {  # masculine and feminine singular, masculine and feminine plural
    "el": ("el", "la", "los", "las"),
    "al": ("al", "a la", "a los", "a las"),
    "del": ("del", "de la", "de los", "de las"),
    "un": ("un", "una", "unos", "unas"),
    "algún": ("algún", "alguna", "algunos", "algunas"),
    "ningún": ("ningún", "ninguna", "ningunos", "ningunas"),
    "primer": ("primer", "primera", "primeros", "primeras"),
    "lo": ("lo", "la", "los", "las"),
    "este": ("este", "esta", "estos", "estas"),
    "ese": ("ese", "esa", "esos", "esas"),
    "aquel": ("aquel", "aquella", "aquellos", "aquellas"),
    "marrón": ("marrón", "marrón", "marrones", "marrones"),
}
for _nationality in ("español", "inglés", "francés", "alemán", "irlandés", "holandés", "portugués", "escocés"):
    _stem = _nationality[:-2] + {"é": "e", "á": "a"}.get(_nationality[-2], _nationality[-2]) + _nationality[-1]
    SPANISH_FORMS[_nationality] = (_nationality, _stem + "a", _stem + "es", _stem + "as")

SPANISH_VERBS = {
    "es": "son",
    "llegó": "llegaron",
}

TARGET_FORMS = {
    "is": "are",
    "isn't": "aren't",
    "was": "were",
    "has": "have",
    "hasn't": "haven't",
    "does": "do",
    "doesn't": "don't",
    "it": "them",
    "it's": "they're",
    "this": "these",
    "that": "those",
    "the": "the",
    "another one": "some others",
    "one": "ones",
}

A_EXCEPTIONS = ("euro", "university", "one", "useful", "used")
AN_EXCEPTIONS = ("hour", "honest")


def agree(word: str, gender: str, plural: bool) -> str:
    """Inflect a Spanish determiner, pronoun, adjective or participle given in the masculine singular.

    Of several words the last one agrees: ``agree("más barato", "f", False)`` is *más barata*.
    """
    *before, last = word.split(" ")
    column = (gender == "f") + 2 * plural
    return " ".join([*before, SPANISH_FORMS.get(last, _regular_forms(last))[column]])


def _regular_forms(word: str) -> tuple[str, str, str, str]:
    feminine = word[:-1] + "a" if word.endswith("o") else word
    return word, feminine, pluralize(word), pluralize(feminine)


def determiner(word: str, gender: str, plural: bool, *, following: str) -> str:
    """Inflect a determiner directly before the noun phrase `following`: *el agua*, *un área*, *del agua*."""
    stressed = following.split(" ")[0] in STRESSED_A and word in {"el", "al", "del", "un", "algún", "ningún"}
    return agree(word, "m" if stressed and not plural else gender, plural)


def pluralize(noun: str) -> str:
    """Form the plural of a Spanish noun, with its adjectives: *tren nocturno* to *trenes nocturnos*."""
    words = noun.split(" ")
    head = next((i for i, word in enumerate(words) if word in PREPOSITIONS), len(words))
    return " ".join([*map(_pluralize_word, words[:head]), *words[head:]])


def _pluralize_word(word: str) -> str:
    if word[-1] in VOWELS:
        return word + "s"
    if word.endswith("z"):
        return word[:-1] + "ces"
    for accented, plain in (("ión", "ion"), ("ón", "on"), ("án", "an"), ("és", "es"), ("ín", "in"), ("ús", "us")):
        if word.endswith(accented):
            return word.removesuffix(accented) + plain + "es"
    return word + "es"


def verb(word: str, plural: bool) -> str:
    """Put a Spanish verb, given in the third person singular, into the number of its subject."""
    return SPANISH_VERBS.get(word, word + "n") if plural else word


def pluralize_target(noun: str) -> str:
    """Form the plural of an English noun: *glass of water* to *glasses of water*."""
    words = noun.split(" ")
    last = next((i for i, word in enumerate(words) if word in TARGET_PREPOSITIONS), len(words)) - 1
    return " ".join([*words[:last], _pluralize_target_word(words[last]), *words[last + 1 :]])


def _pluralize_target_word(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "es" if word.endswith(("s", "x", "ch", "sh")) else word + "s"


def agree_target(word: str, plural: bool) -> str:
    """Put an English verb (third person singular), pronoun or demonstrative into the number of a noun."""
    if not plural:
        return word
    return TARGET_FORMS.get(word) or word.removesuffix("s")


def article(following: str, plural: bool) -> str:
    """Return *a*, *an* or, for the plural, *some*: the indefinite article for the English text that follows."""
    if plural:
        return "some"
    exception = following.startswith(A_EXCEPTIONS)
    return "an" if following.startswith(AN_EXCEPTIONS) or (following[0].lower() in "aeiou" and not exception) else "a"
