"""The travel corpus: the files are what the grammar gives, and what it gives agrees with itself."""

import gzip
import importlib
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

TRAVEL = Path(__file__).parents[2] / "examples" / "travel"


def load_module(name):
    sys.path.insert(0, str(TRAVEL))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(TRAVEL))


morphology, quantities = load_module("morphology"), load_module("quantities")
grammar, generate = load_module("grammar"), load_module("generate")


@pytest.fixture(scope="module")
def built():
    return generate.build()


@pytest.fixture(scope="module")
def committed():
    return {
        split: list(zip(read_file(f"{split}.es.gz"), read_file(f"{split}.en.gz"), strict=True))
        for split in ("train", "validation", "test")
    }


@pytest.fixture(scope="module")
def pairs(committed):
    return [pair for split in committed.values() for pair in split]


@pytest.fixture(scope="module")
def lexicon():
    """Head word of every noun, singular and plural, to its genders: read without the grammar's own parser."""
    genders = {}
    for path in TRAVEL.glob("rules/*.txt"):
        for singular, plural, gender in re.findall(
            r"^([^|/\n]+?)(?:/([^|\n]+?))? ([mf])p? \|\| ", path.read_text("utf-8"), re.MULTILINE
        ):
            head = singular.split(" ")[0]
            for form in {head, *(plural.split(" ")[:1]), head + "s", head + "es", re.sub("ión$", "iones", head)}:
                genders.setdefault(form, set()).add(gender)
    return genders


def read_file(name):
    return gzip.decompress((TRAVEL / name).read_bytes()).decode("utf-8").split("\n")[:-1]


# The files


def test_committed_files_are_what_the_grammar_gives(built, committed):
    for split, lines in built.items():
        assert committed[split] == [(pair.source, pair.target) for pair in lines]
        if split in generate.LINKED:
            assert read_file(f"{split}.links.gz") == [pair.links for pair in lines]


def test_written_files_are_found_equal_and_a_changed_one_is_named(tmp_path, monkeypatch):
    tiny = {"train": [generate.Pair("¿Sí?", "Yes?", 0)], "test": [generate.Pair("No.", "No.", 1)]}
    monkeypatch.setattr(generate, "build", lambda: tiny)
    generate.write(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    generate.write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    monkeypatch.setattr(sys, "argv", ["generate.py", "--check", "--directory", str(tmp_path)])
    assert generate.main() == 0
    (tmp_path / "train.es.gz").write_bytes(gzip.compress("¿Si?\n".encode()))
    (tmp_path / "test.en.gz").unlink()
    assert generate.differing_files(tmp_path) == ["train.es.gz", "test.en.gz"]
    assert generate.main() == 1


def test_sizes(committed):
    assert len(committed["train"]) >= 20_000
    assert len(committed["validation"]) == 500
    assert len(committed["test"]) == 1_000
    assert sum(path.stat().st_size for path in TRAVEL.glob("*.gz")) < 1_500_000


def test_no_spanish_sentence_occurs_twice(pairs):
    assert [source for source, count in Counter(source for source, _ in pairs).items() if count > 1] == []


def test_every_sentence_rule_is_in_the_training_set(built):
    rules = grammar.load(TRAVEL / "rules").sentences
    assert len(rules) >= 150
    assert {pair.rule for pair in built["train"]} == set(range(len(rules)))


def test_readme_gives_the_sizes(committed):
    readme = (TRAVEL / "README.md").read_text("utf-8")
    for split, lines in committed.items():
        words = [sum(len(sentence.split()) for sentence in side) for side in zip(*lines, strict=True)]
        assert f"| {len(lines):,} | {words[0]:,} | {words[1]:,} |" in readme, split
    rules = grammar.load(TRAVEL / "rules")
    computed = set(quantities.computed_categories())
    phrases = sum(len(lines) for name, lines in rules.phrases.items() if name not in computed)
    nouns = {singular.source for lines in rules.nouns.values() for singular, _ in lines}
    assert f"{len(rules.sentences)} rules for sentences, {phrases} for phrases and {len(nouns)} nouns" in readme


# The text


def test_lines_are_clean_sentences(pairs):
    for side in zip(*pairs, strict=True):
        for line in side:
            assert line == " ".join(line.split()), line
            assert re.fullmatch(r"[^\[\]|/_*+~\"()]+[.?!]", line), line
            assert line.lstrip("¿¡")[0].isupper(), line
            assert not re.search(r" [,.?!:;]|[,;:]\S*[,;:]\S*[,;:]|[.?!] [¿¡]?[a-záéíóú]", line), line


def test_question_and_exclamation_marks_balance_and_match(pairs):
    for source, target in pairs:
        assert source.count("¿") == source.count("?") == target.count("?"), source
        assert source.count("¡") == source.count("!") == target.count("!"), source


def test_letters_are_those_of_the_language(pairs):
    assert set("".join(source for source, _ in pairs)) <= set(
        "abcdefghijklmnopqrstuvwxyzáéíóúüñABCDEFGHIJKLMNOPQRSTUVWXYZÁÉÍÓÚÑ0123456789 .,:;¿?¡!"
    )
    # The accents are those of names and of borrowed words (café, crème caramel).
    assert set("".join(target for _, target in pairs)) <= set(
        "abcdefghijklmnopqrstuvwxyzáâéèíóúñABCDEFGHIJKLMNOPQRSTUVWXYZÓ0123456789 .,:;?!'-"
    )


def test_numerals_are_the_same_on_both_sides(pairs):
    for source, target in pairs:
        assert re.findall(r"\d+", source) == re.findall(r"\d+", target) or sorted(re.findall(r"\d+", source)) == sorted(
            re.findall(r"\d+", target)
        ), source


# Agreement, checked on the text


@pytest.mark.parametrize(
    ("gender", "determiners"),
    [
        ("m", "el los un unos este estos ese esos aquel otro otros ningún algún al del nuestro nuestros"),
        ("f", "la las una unas esta estas esa esas aquella otra otras ninguna alguna nuestra nuestras"),
    ],
)
def test_determiners_agree_with_the_gender_of_their_noun(pairs, lexicon, gender, determiners):
    pattern = re.compile(rf"\b({determiners.replace(' ', '|')}) (\w+)", re.IGNORECASE)
    checked = 0
    for source, _ in pairs:
        for _, noun in pattern.findall(source):
            genders = lexicon.get(noun, {gender})
            assert gender in genders or noun == "área", source
            checked += noun in lexicon
    assert checked > 5_000


def test_determiners_agree_with_the_number_of_their_noun(pairs, lexicon):
    plural_nouns = {form for form in lexicon if form.endswith("s")} - {"paraguas", "autobús", "limpiaparabrisas"}
    checked = 0
    for source, _ in pairs:
        for determiner, noun in re.findall(
            r"\b([Ll][ao]s|[Uu]n[ao]s|[Ee]st[ao]s|[Ee]l|[Uu]na?|[Ee]st[ea]) (\w+)", source
        ):
            if noun in lexicon and noun not in {"paraguas", "limpiaparabrisas"}:
                assert determiner.endswith("s") == (noun in plural_nouns), source
                checked += 1
    assert checked > 10_000


@pytest.mark.parametrize("stem", ["roj", "negr", "blanc", "amarill"])
def test_colours_agree_with_their_noun(pairs, lexicon, stem):
    checked = 0
    for source, _ in pairs:
        for noun, vowel, plural in re.findall(rf"\b(\w+) {stem}([oa])(s?)\b", source):
            if noun in lexicon:
                assert {"o": "m", "a": "f"}[vowel] in lexicon[noun], source
                assert (plural == "s") == (noun.endswith("s") and noun != "paraguas") or noun == "paraguas", source
                checked += 1
    assert checked > 100


def test_verbs_agree_with_their_subject_in_number(pairs):
    subject = re.compile(
        r"^(?:\w+ \w+, |\w+, )?(Este|Esta|Estos|Estas|El|La|Los|Las|Mi|Mis) [^,.:]*? (está|están)\b", re.I
    )
    checked = 0
    for source, _ in pairs:
        for determiner, verb in subject.findall(source):
            assert determiner.endswith("s") == (verb == "están"), source
            checked += 1
    assert checked > 500


def test_english_demonstratives_verbs_and_articles_agree(pairs):
    checked = 0
    for _, target in pairs:
        for demonstrative, noun in re.findall(
            r"\b([Tt]his|[Tt]hese|[Tt]hose) (?:[a-z]+ )??([a-z-]+)(?= (?:is|are|doesn't|don't|costs?|suits?)\b)", target
        ):
            assert (demonstrative.lower() != "this") == (noun.endswith("s") and not noun.endswith("ss")), target
            checked += 1
        for article, word in re.findall(r"\b(an?) (\w+)", target, re.IGNORECASE):
            vowel = word[0].lower() in "aeiou" and not word.startswith(("uni", "eu", "one"))
            assert (article.lower() == "an") == (vowel or word == "hour"), target
            checked += 1
        assert not re.search(r"\b(they|these|those|we|you) (is|has|was|does|doesn't)\b", target), target
    assert checked > 10_000


def test_prepositions_and_articles_contract(pairs):
    assert [source for source, _ in pairs if re.search(r"\b[Aa] el\b|\b[Dd]e el\b", source)] == []


def test_clitic_refers_to_the_noun_before_it(pairs, lexicon):
    checked = 0
    for source, _ in pairs:
        match = re.search(r"mi (\w+)\b.* Creo que (la|lo) he dejado", source)
        if match:
            assert {"la": "f", "lo": "m"}[match[2]] in lexicon[match[1]], source
            checked += 1
    assert checked > 20


# The grammar


@pytest.mark.parametrize(
    ("word", "gender", "plural", "expected"),
    [
        ("rojo", "f", True, "rojas"),
        ("verde", "f", True, "verdes"),
        ("azul", "m", True, "azules"),
        ("marrón", "f", True, "marrones"),
        ("gris", "m", False, "gris"),
        ("más barato", "f", False, "más barata"),
        ("inglés", "f", True, "inglesas"),
        ("alemán", "m", True, "alemanes"),
        ("un", "m", True, "unos"),
        ("del", "f", False, "de la"),
        ("mi", "f", True, "mis"),
    ],
)
def test_spanish_agreement(word, gender, plural, expected):
    assert morphology.agree(word, gender, plural) == expected


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("habitación doble", "habitaciones dobles"),
        ("billete de ida y vuelta", "billetes de ida y vuelta"),
        ("autobús", "autobuses"),
        ("albornoz", "albornoces"),
        ("jardín botánico", "jardines botánicos"),
        ("té", "tés"),
    ],
)
def test_spanish_plurals(singular, plural):
    assert morphology.pluralize(singular) == plural


def test_feminine_nouns_with_stressed_a_take_the_masculine_article_in_the_singular():
    assert morphology.determiner("el", "f", False, following="área de descanso") == "el"
    assert morphology.determiner("el", "f", True, following="áreas de descanso") == "las"
    assert morphology.determiner("este", "f", False, following="área de descanso") == "esta"


@pytest.mark.parametrize(
    ("singular", "plural"),
    [("glass of water", "glasses of water"), ("ferry", "ferries"), ("toothbrush", "toothbrushes"), ("tray", "trays")],
)
def test_english_plurals(singular, plural):
    assert morphology.pluralize_target(singular) == plural


@pytest.mark.parametrize(
    ("number", "spanish", "english"),
    [
        (1, "uno", "one"),
        (16, "dieciséis", "sixteen"),
        (22, "veintidós", "twenty-two"),
        (31, "treinta y uno", "thirty-one"),
        (100, "cien", "one hundred"),
        (101, "ciento uno", "one hundred and one"),
        (515, "quinientos quince", "five hundred and fifteen"),
        (790, "setecientos noventa", "seven hundred and ninety"),
    ],
)
def test_spelled_numbers(number, spanish, english):
    assert quantities.spanish(number) == spanish
    assert quantities.english(number) == english


def test_every_number_has_its_own_name():
    assert len({quantities.spanish(n) for n in range(1000)}) == 1000
    assert len({quantities.english(n) for n in range(1000)}) == 1000
    ordinals = [quantities.english_ordinal(n) for n in (1, 2, 3, 4, 5, 8, 9, 12, 20, 21, 30)]
    assert " ".join(ordinals) == (
        "first second third fourth fifth eighth ninth twelfth twentieth twenty-first thirtieth"
    )


def load_rules(tmp_path, text):
    (tmp_path / "rules.txt").write_text(text, encoding="utf-8")
    return grammar.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("= A sentences -\n[BIRD] canta. || x [BIRD].", "unknown category BIRD"),
        ("= B nouns\nave f || bird\n= A sentences -\n[B]. || it sings.", "the two sides have different slots"),
        ("= B phrases\nsí || yes\n= A sentences -\n[B*]. || [B*].", "B has no plural"),
        ("= B nouns\nave || bird", "rules.txt:2: a noun is written"),
        ("= B verbs\nave || bird", "a section is nouns, phrases or sentences, got 'verbs'"),
        ("= B phrases\nel [ave || bird", "not a slot"),
        ("= B phrases\na || b\n= B phrases\n", "section B exists already"),
    ],
)
def test_faulty_rules_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_rules(tmp_path, text)


def test_two_translations_of_one_sentence_are_refused(tmp_path):
    rules = load_rules(tmp_path, "= A sentences -\nsí. || yes.\nsí. || indeed.\n")
    with pytest.raises(ValueError, match=r"'Sí\.' is both"):
        generate.draw_pairs(rules, total=2, generator=generate.random.Random(3))


def test_numbered_slots_are_different_words_in_either_number(tmp_path):
    rules = load_rules(
        tmp_path,
        "= B nouns\nave f || bird\ngato m || cat\n= A sentences -\n[el B] ve [un B*2]. || the [B] sees [a B*2].\n",
    )
    generator = generate.random.Random(3)
    drawn = {rules.expand(rules.sentences[0], generator=generator)[:2] for _ in range(50)}
    assert drawn == {
        ("la ave ve unos gatos.", "the bird sees some cats."),
        ("el gato ve unas aves.", "the cat sees some birds."),
    }


def test_links_are_those_of_the_rules(tmp_path):
    rules = load_rules(
        tmp_path,
        "= B nouns\nave de paso f || bird\n= C phrases\nrojo || red\n= A sentences -\n"
        "¿no ve[C/B] [esta B], [B]? || don't you see [this B], [B], the [C] one?\n",
    )
    phrase = rules.expand(rules.sentences[0], generator=generate.random.Random(3))
    assert phrase[:2] == ("¿no veroja esta ave de paso, ave de paso?", "don't you see this bird, bird, the red one?")
    # The words of the sentence rule may all translate each other: ¿ no ve esta , ? and don't you see this , , the one ?
    own = {0, 1, 2, 3, 7, 11}, {0, 1, 2, 3, 5, 7, 8, 10, 11}
    # Sure: veroja - red by the phrase, esta - this before one slot, ? - ?. The noun has six words against two.
    sure = {(2, 9), (3, 3), (11, 11)}
    nouns = {(i, j) for i in (4, 5, 6, 8, 9, 10) for j in (4, 6)}
    possible = ({(i, j) for i in own[0] for j in own[1]} | nouns) - sure
    links = [re.fullmatch(r"(\d+)([-p])(\d+)", link) for link in generate.links(phrase).split()]
    assert {(int(link[1]), int(link[3])) for link in links if link[2] == "-"} == sure
    assert {(int(link[1]), int(link[3])) for link in links if link[2] == "p"} == possible


def test_sure_links_join_what_is_the_same_in_both_languages(built):
    """Marks and numerals, in the text that is written, capitals and all."""
    checked = 0
    for pair in built["test"]:
        words = [generate.WORD.findall(side) for side in (pair.source, pair.target)]
        for i, j in re.findall(r"\b(\d+)-(\d+)\b", pair.links):
            source, target = words[0][int(i)], words[1][int(j)]
            if not source.isalpha() and not target.isalpha() and "-" not in target and "'" not in target:
                assert source == target, pair
                checked += 1
    assert checked > 1_000


def test_openings_and_later_sentences_get_capitals():
    assert generate.capitalize("perdone, ¿dónde está?") == "Perdone, ¿dónde está?"
    assert generate.capitalize("¿sí? ¡no! son 12.50 euros. mire.") == "¿Sí? ¡No! Son 12.50 euros. Mire."
