"""Files that hold both sides: what is read of each format, and the one sentence if something is wrong."""

import gzip
import re
import zipfile

import pytest

from nmt.corpora import formats, tmx
from nmt.data.corpus import Corpus, Layout
from nmt.errors import DataError, NMTError

LAYOUT = Layout(languages=("de", "en"))
DOCTYPE = '<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'


@pytest.fixture
def read(tmp_path):
    """A function that writes a file and reads its units."""

    def read_file(name, content, layout=LAYOUT):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(Corpus(path, path, layout=layout).units())

    return read_file


def memory(*units, head='<?xml version="1.0"?>\n'):
    """A TMX of units, each a mapping of languages to segments."""
    body = "".join(
        "<tu><note>no text</note>"
        + "".join(f'<tuv xml:lang="{tag}"><prop>no</prop><seg>{seg}</seg></tuv>' for tag, seg in unit.items())
        + "</tu>\n"
        for unit in units
    )
    return f'{head}<tmx version="1.4">\n<header/><body>\n{body}</body></tmx>\n'


@pytest.mark.parametrize(
    ("columns", "content", "pairs"),
    [
        ((None, None), "eins\tone\nzwei\ttwo\trest\n\n", [("eins", "one"), ("zwei", "two"), ("", "")]),
        ((3, 1), 'one\t1\teins\ntwo "x\t2\tzwei\r\n', [("eins", "one"), ("zwei", 'two "x')]),
        (("de", "en"), "en\tid\tde\none\t1\teins\n", [("eins", "one")]),
        (("de", 1), "\ufeffen\tde\none\teins\n", [("eins", "one")]),
    ],
)
def test_columns_by_number_and_by_name(read, columns, content, pairs):
    assert read("x.tsv", content, LAYOUT._replace(columns=columns)) == pairs
    assert read("x.TSV.gz", gzip.compress(content.encode(), mtime=0), LAYOUT._replace(columns=columns)) == pairs
    assert read("x.txt", content, LAYOUT._replace(columns=columns, format="tsv")) == pairs


def test_a_first_line_of_names_is_said(read, caplog):
    assert read("x.tsv", "de\ten\neins\tone\n") == [("de", "en"), ("eins", "one")]
    assert "the first line, de, en, is read as a pair: if it names the columns, give source_column" in caplog.text


@pytest.mark.parametrize(
    ("content", "is_said"),
    [
        ("id\tenglish\tgerman\n7\tone\teins\n", True),
        ("id\tenglish\tgerman\nseven\tone dog\tein Hund\n", True),
        ("one dog\tein Hund\tx\n7\tone\teins\n", False),
        ("eins\tone\tx\nzwei\ttwo\ty\n", False),
        ("eins\tone\ta dog\nzwei\ttwo\t7\n", False),
        ("Danke\tThanks\tMerci\nGuten Tag\tGood day\tBonjour\n", False),
    ],
)
def test_a_first_line_that_looks_like_names_is_said(read, caplog, content, is_said):
    read("names.tsv", content, LAYOUT._replace(columns=(3, 2)))
    assert ("is read as a pair: if it names the columns" in caplog.text) == is_said


def test_a_tab_within_a_text_is_refused_where_columns_have_names(read):
    with pytest.raises(
        DataError, match=r"line 3: must have 2 columns between tabs, as line 1 names them, got 3: a tab"
    ):
        read("x.tsv", "de\ten\neins\tone\nein\tHund\ta dog\n", LAYOUT._replace(columns=("de", "en")))
    assert read("y.tsv", "de\ten\neins\tone\t\n", LAYOUT._replace(columns=("de", "en"))) == [("eins", "one")]


def test_fields_of_json_lines(read):
    content = '{"source": "a\\r\\nb", "target": "", "t": {"de": "c\\u2028", "en": "d"}, "t.en": "e"}\n\n'
    assert read("x.jsonl", content) == [("a b", ""), ("", "")]
    assert read("x.jsonl", content, LAYOUT._replace(columns=("t.de", "t.en"))) == [("c\u2028", "e"), ("", "")]


def test_an_element_of_a_list_is_a_field_of_json_lines(read):
    lines = ['{"s": "a", "t": [{"text": "b"}, {"text": "c"}]}\n', '{"s": "", "t": []}\n', '{"s": "d", "t": ["e"]}\n']
    first, second = (LAYOUT._replace(columns=("s", f"t.{number}.text")) for number in (0, 1))
    assert read("x.jsonl", "".join(lines[:2]), first) == [("a", "b"), ("", "")]
    assert read("x.jsonl", "".join(lines), second) == [("a", "c"), ("", ""), ("d", "")]
    with pytest.raises(DataError, match=r'x.jsonl, line 3: must have a text "t.0.text", got the fields s, t'):
        read("x.jsonl", "".join(lines), first)
    with pytest.raises(DataError, match=r"x.jsonl, line 1: must be a JSON object, got \["):
        read("x.jsonl", '["a", "b"]\n', LAYOUT._replace(columns=(0, 1)))


@pytest.mark.parametrize(
    ("tags", "language", "best"),
    [
        (["en", "de-AT", "de"], "de", "de"),
        (["de_CH", "DE-at"], "de", "de_CH"),
        (["de"], "de-DE", None),
        (["pt-br"], "pt-BR", "pt-br"),
        (["deu"], "de", None),
    ],
)
def test_varieties_of_a_language(tags, language, best):
    assert formats.best_match(tags, language) == best


def test_a_memory_gives_text_without_the_codes_in_it(read):
    inline = (
        '<bpt i="1">&lt;b&gt;</bpt>Ha<ept i="1">&lt;/b&gt;</ept>us<ph>{br<sub>alt</sub>}</ph>Tür,\n  <hi>zu</hi><ph/>.'
    )
    units = [{"de-DE": inline, "en": "A &amp; B &#x2014;"}, {"fr": "x", "en": "y"}, {"de": "", "EN-gb": "z"}]
    expected = [("Haus Tür, zu.", "A & B \u2014"), "without de or en", ("", "z")]
    assert read("x.tmx", memory(*units, head=DOCTYPE)) == expected
    head = '<?xml version="1.0" encoding="UTF-16"?>'
    assert read("x.tmx.gz", gzip.compress(memory(*units, head=head).encode("utf-16"))) == expected
    assert read("x.tmx", memory(*units), Layout(columns=("fr", "en")))[1] == ("x", "y")


def test_memories_are_read_as_they_come(monkeypatch, tmp_path):
    """A reader that held the file would have read all of it before the first pair."""
    path, sizes = tmp_path / "x.tmx", []
    path.write_text(memory(*[{"de": f"wort {n}", "en": f"word {n}"} for n in range(3000)]))
    blocks = tmx.read_blocks
    monkeypatch.setattr(tmx, "read_blocks", lambda p: (sizes.append(len(block)) or block for block in blocks(p)))
    units = tmx.read_tmx(path, LAYOUT)
    assert next(units) == ("wort 0", "word 0")
    assert sum(sizes) < path.stat().st_size / 4
    assert sum(1 for _ in units) == 2999


@pytest.mark.parametrize(
    ("declared", "used", "message"),
    [
        ('<!DOCTYPE tmx [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>', "&b;", "line 2: must declare no entity, got a"),
        ('<!DOCTYPE tmx [<!ENTITY a SYSTEM "{secret}">]>', "&a;", "line 2: must declare no entity, got a"),
        ('<!DOCTYPE tmx [<!ENTITY % a SYSTEM "{secret}"> %a;]>', "x", "line 2: must declare no entity, got a"),
        (DOCTYPE.strip(), "&nbsp;", "line 5: uses the entity nbsp, declared in a file that is not opened"),
        ('<!DOCTYPE tmx SYSTEM "{secret}">', "&a;", "line 5: uses the entity a, declared in a file that is not"),
    ],
)
def test_no_entity_is_expanded_or_fetched(read, tmp_path, monkeypatch, declared, used, message):
    secret = tmp_path / "secret"
    secret.write_text('<!ENTITY a "secret">')
    head = '<?xml version="1.0"?>\n' + declared.replace("{secret}", secret.as_uri()) + "\n"
    with pytest.raises(DataError, match=f"x.tmx, {message}"):
        read("x.tmx", memory({"de": used, "en": "y"}, head=head))


def archive(tmp_path, **files):
    path = tmp_path / "source.zip"
    with zipfile.ZipFile(path, "w") as written:
        for name, content in files.items():
            written.writestr(name.replace("__", "."), content)
    return path.read_bytes()


def test_archives_of_moses_files(read, tmp_path):
    content = archive(
        tmp_path, README="x", B__de="eins\r\nzwei", B__en="one\ntwo\n", B__ids="1\n2\n", C__de_AT="drei\n", C__en="3\n"
    )
    assert read("x.txt.zip", content) == [("eins", "one"), ("zwei", "two"), ("drei", "3")]


BAD = {
    "x.tsv": [
        ("a\tb\n\nc\n", "x.tsv, line 3: must have at least 2 columns between tabs, got 1"),
        (b"a\tb\n\xff\tc\n", "x.tsv, line 2: must be valid UTF-8, got byte 0xff"),
        ("", "must hold at least one pair of lines, got none in"),
        ("a\tb\n".encode("utf-16"), "x.tsv: is UTF-16: convert it"),
        (gzip.compress(b"a\tb\n" * 9000, mtime=0)[:-60], r"x.tsv, line \d+: the gzip file is damaged or cut short"),
    ],
    "x.jsonl": [
        ("{}\n", 'x.jsonl, line 1: must have a text "source", got the fields of an empty object'),
        ('{"source": "a", "target": 3}\n', 'x.jsonl, line 1: must have a text "target", got the fields source, target'),
        ('\n["a", "b"]\n', r'x.jsonl, line 2: must be a JSON object, got \["a", "b"\]'),
        ("[" * 99999 + "\n", "x.jsonl, line 1: must be a JSON object, got what is no JSON: maximum recursion"),
        ('{"source": "\\ud800", "target": "b"}\n', 'line 1: "source" must be text, got one half of a surrogate pair'),
    ],
    "x.tmx": [
        ("", "x.tmx, line 1: must be XML .* got: no element found"),
        ("<html/>", "x.tmx, line 1: must be TMX, got XML that begins with <html>"),
        (memory({"de": "a", "en": "b"})[:-9], "x.tmx, line 5: must be XML .* got: (no element|unclosed token)"),
        (
            memory({"de": "ü", "en": "b"}).encode("latin-1"),
            "x.tmx, line 4: must be XML .* UTF-8 if none, got: not well",
        ),
        (
            memory({"de": "a", "en": "b"}, head='<?xml version="1.0" encoding="Shift_JIS"?>'),
            "x.tmx: must be XML in UTF-8, .* got multi-byte encodings are not supported: convert it, say with iconv",
        ),
        (memory({"de": "a", "en": "b"}, head='<?xml version="1.0" encoding="none"?>'), "x.tmx: must be XML in UTF-8"),
        (memory({"de": "a\0", "en": "b"}), "x.tmx, line 4: must be XML .* got: not well-formed"),
        (memory({"fr": "a", "en": "b"}), "x.tmx: must have units with segments in de and en, got the languages fr, en"),
    ],
    "x.zip": [
        (b"PK\3\4 and no more", "x.zip: must be a zip archive that can be read, got a damaged or locked one"),
        ({"B__de": "a\n"}, "x.zip: must hold Moses files, NAME.de and NAME.en, got B.de"),
        ({"B__de": "a\nb\n", "B__en": "A\n"}, "x.zip: both sides .* same number of lines, but B.en ends after 1"),
        ({"B__de": b"a\n\xff\n", "B__en": "A\nB\n"}, "x.zip: B.de, line 2: must be valid UTF-8"),
        ({"B__de": b"", "B__en": ""}, "must hold at least one pair of lines, got none in"),
    ],
}


@pytest.mark.parametrize(("name", "content", "message"), [(name, *bad) for name, cases in BAD.items() for bad in cases])
def test_what_is_wrong_is_one_sentence_with_file_and_line(read, tmp_path, name, content, message):
    with pytest.raises(NMTError, match=message) as caught:
        read(name, archive(tmp_path, **content) if isinstance(content, dict) else content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.tsv", "x.jsonl", "x.tmx", "x.zip"])
def test_a_missing_file_and_a_folder_are_named(tmp_path, name):
    path = tmp_path / name
    corpus = Corpus(path, path, layout=LAYOUT)
    with pytest.raises(DataError, match=re.escape(f"{path}: cannot be read: No such file or directory")):
        list(corpus.pairs())
    path.mkdir()
    with pytest.raises(
        DataError, match=re.escape(str(path)) + ": (must be a file, got|cannot be read: Is) a directory"
    ):
        list(corpus.pairs())


def test_wrong_columns_and_formats_are_said(read):
    with pytest.raises(
        DataError, match=r"x.tsv, line 1: must name the columns, one of them fr, got de, en: give anoth"
    ):
        read("x.tsv", "de\ten\n", Layout(columns=("fr", "en")))
    with pytest.raises(NMTError, match=r"the format of a corpus must be tsv, .* or zip.*, got tsw: did you mean tsv"):
        read("x.txt", "a\tb\n", Layout(format="tsw"))
    with pytest.raises(DataError, match=r"x.tmx: the languages of source and target must be known"):
        read("x.tmx", memory(), Layout())
