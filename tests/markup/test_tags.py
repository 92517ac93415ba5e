"""Inline tags and placeholders: what they are, and where they go."""

import random
from collections import Counter
from itertools import combinations, pairwise
from statistics import mean
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.alignment.bitext import cut_spans
from nmt.markup.placeholders import find_placeholders, hold_placeholders
from nmt.markup.tags import Writing, count_malformed, paired, place_elements, put_back, read_pieces, take_out

WORDS = st.sampled_from(["casa", "the", "T-Shirt", "a&amp;b", "3", ",", ".", "{name}", "ñu", "&lt;", "家"])
SPACES = st.sampled_from([" ", ""])


def marked(line):
    pieces = read_pieces(line)
    return take_out(paired(pieces), Writing.of(pieces))


def restored(line, target, links):
    """The target with the tags of the line; `links` are between words, from 0."""
    source = marked(line)
    return put_back(source, target, cut_spans(source.text), cut_spans(target), links).text


def unchanged(line):
    """The line, translated as it is."""
    source = marked(line)
    return restored(line, source.text, [(place, place) for place in range(len(cut_spans(source.text)))])


@st.composite
def contents(draw, depth=4, words=WORDS):
    """A line of words and well-nested elements, each with a number of its own."""
    count = iter(range(1000))

    def content(depth):
        parts = []
        for _ in range(draw(st.integers(0, 5))):
            what = draw(st.sampled_from("elww"))
            if what == "e" and depth:
                name = draw(st.sampled_from(["b", "g", "br", "x:i-1"]))
                parts.append(f'<{name} id="{next(count)}">{content(depth - 1)}</{name}>')
            elif what == "l":
                parts.append(draw(st.sampled_from(['<br id="{}"/>', "<g id='{}' />"])).format(next(count)))
            else:
                parts.append(" ".join(draw(st.lists(words, min_size=1, max_size=3))))
        return "".join(part + draw(SPACES) for part in parts)

    return content(depth)


def elements(line):
    """The elements of a line, as a parser of XML sees them."""
    root = ElementTree.fromstring(f'<r xmlns:x="x">{line}</r>')
    return [(each.tag, each.attrib["id"]) for each in root.iter() if each is not root]


def parents(line):
    """For each element with text the number of the one around it."""
    root = ElementTree.fromstring(f'<r xmlns:x="x" id="-1">{line}</r>')
    return {
        child.attrib["id"]: parent.attrib["id"]
        for parent in root.iter() for child in parent if "".join(child.itertext()).strip()
    }  # fmt: skip


@given(contents(), st.lists(WORDS, max_size=9), st.data())
def test_tags_are_well_nested_and_none_is_lost_or_invented(line, words, data):
    target = " ".join(words).replace("&lt;", "<").replace("&amp;", "&")
    num_words = len(cut_spans(marked(line).text))
    sources = data.draw(st.lists(st.integers(0, num_words), min_size=len(words), max_size=len(cut_spans(target))))
    links = [(i, j) for j, i in enumerate(sources) if i < num_words]

    check(line, target, restored(line, target, links))


def check(line, target, found):
    """The nesting is that of the line, and the text that of the target."""
    assert Counter(elements(found)) == Counter(elements(line))
    assert {**parents(line), **parents(found)} == parents(line)
    text = "".join(ElementTree.fromstring(f'<r xmlns:x="x">{found}</r>').itertext())
    assert "".join(text.split()) == "".join(target.split())


def test_it_is_so_of_many_elements_with_crossing_links():
    draw = random.Random(1)
    count = iter(range(100_000))

    def content(depth):
        kinds = draw.choices("elw", [4 * (depth > 0), 1, 4], k=draw.randint(1, 4))
        made = {"e": lambda: f'<b id="{next(count)}">{content(depth - 1)}</b>', "l": lambda: f'<x id="{next(count)}"/>'}
        return " ".join(made.get(kind, lambda: draw.choice("abcde"))() for kind in kinds)

    for _ in range(1500):
        line, target = content(3), " ".join("pqrstuv"[: draw.randint(1, 7)])
        if words := cut_spans(marked(line).text):
            links = [(draw.randrange(len(words)), j) for j in range(len(target.split())) if draw.random() < 0.9]
            check(line, target, restored(line, target, links))


@given(contents(words=st.sampled_from([" casa ", " a&amp;b ", " ñu ", "家", "語", ",", ".", "&lt;"])))
def test_a_translation_equal_to_its_source_gets_the_line_again(line):
    assert "".join(unchanged(line).split()) == "".join(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "a < b",
        "a &lt; b &amp; c, caf&eacute; &quot;d&quot;",
        "R&D <b>x</b> &copy; 3 > 2",
        "x &amp;lt; y &#60; z",
        "one<br/>two <br/> three <br/>, four<br/>.",
        "<li>one</li><li>two</li> <p> three </p>",
        "<!-- c --> one <a></a> <?x y?>two<a> <b/> </a>",
        "<a href='x>y'>one</a> <b >two</b >",
        "one</b> two <i>three",
        "<b><i>one</b> two</i>",
        "x < y and use &lt;b&gt; here, or &lt;/b&gt;",
        "AT&T writes &amp;lt; so, and &amp;#65; too",
    ],
)
def test_a_line_comes_back_to_the_letter(line):
    assert unchanged(line) == line


@pytest.mark.parametrize(
    ("line", "text", "unpaired", "malformed"),
    [
        ("a < b", "a < b", 0, 0),
        ("a <b and c> <d", "a <b and c> <d", 0, 2),
        ("un<b>do</b> it", "undo it", 0, 0),
        ("one<br>two<b></i>", "one two", 2, 0),
        ("<![CDATA[a < <b>]]> &unknown; &notit;", "a < <b> &unknown; &notit;", 0, 0),
        ("<x:y-1 a='1'\tb = \"2\">ñ</x:y-1 >", "ñ", 0, 0),
        ("</b/> <1>", "</b/> <1>", 0, 1),
    ],
)
def test_what_is_a_tag_and_what_is_text(line, text, unpaired, malformed):
    found = marked(line)
    assert (found.text, found.unpaired, count_malformed(read_pieces(line))) == (text, unpaired, malformed)


@pytest.mark.parametrize(
    ("line", "target", "links", "expected"),
    [
        # The hull, with what nothing is linked to within.
        ("<b>a b</b> c", "C A so B", [(0, 1), (1, 3), (2, 0)], "C <b>A so B</b>"),
        ("a <b>b <i>c</i></b>", "C x B A", [(0, 3), (1, 2), (2, 0)], "<b><i>C</i> x B</b> A"),
        # All words of the line are all words of the translation.
        ("<b>a b</b>", "x A B y", [(0, 1), (1, 2)], "<b>x A B y</b>"),
        # Hulls that cross are kept apart, with as many of their words as can be.
        ("<b>a b</b> <i>c</i>", "A C B", [(0, 0), (1, 2), (2, 1)], "<b>A</b> <i>C</i> B"),
        ("<b>a b c</b> <i>d</i>", "D A B D C", [(0, 1), (1, 2), (2, 4), (3, 0), (3, 3)], "<i>D</i> <b>A B D C</b>"),
        # Without a link: between what its neighbours became.
        ("a <b>b</b> c", "A C", [(0, 0), (2, 1)], "A <b></b> C"),
        ("a <b>b</b> c", "C A", [(0, 1), (2, 0)], "C A <b></b>"),
        # A lone tag sticks to the word on its side.
        ("a<x/> b", "B A", [(0, 1), (1, 0)], "B A<x/>"),
        ("a <x/>b c", "C B A", [(0, 2), (1, 1), (2, 0)], "C <x/>B A"),
        ("a <x/>, b", "A, B", [(0, 0), (1, 1), (2, 2)], "A <x/>, B"),
        ("<x/>a b<x/>", "B A", [(0, 1), (1, 0)], "<x/>B A<x/>"),
        ("a</b> c <i>d", "D C A", [(0, 2), (1, 1), (2, 0)], "<i>D C A</b>"),
        # A sign is linked to itself, and no word to a sign.
        ("<b>a</b>, b.", "A, B.", [(0, 0), (0, 3), (2, 2), (3, 2), (1, 2)], "<b>A</b>, B."),
        ("<b>a</b> &amp; b", "A < B", [(0, 0), (2, 2)], "<b>A</b> &lt; B"),
        ("<b>a</b>", "", [], "<b></b>"),
    ],
)
def test_where_tags_go(line, target, links, expected):
    assert restored(line, target, links) == expected


def test_guesses_are_counted():
    source = marked("a <b>b</b> <x/> c")
    words = cut_spans(source.text)
    found = [put_back(source, "A C", words, cut_spans("A C"), links) for links in ([(0, 0), (2, 1)], [])]
    assert [each.guessed for each in found] == [1, 2]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=6))
def test_crossing_hulls_keep_as_many_words_as_can_be(owners):
    """Against all ways to cut the target into intervals, in the order of the means."""
    links = [(owner, place) for place, owner in enumerate(owners)]
    elements = take_out(paired(read_pieces("<a>a</a> <b>b</b> <c>c</c> <d>d</d>"))).elements
    places = place_elements(elements, [(0, 1), (2, 3), (4, 5), (6, 7)], len(owners), links)
    kept = [place for place in places if place.start < place.end]
    found = sum(owners[j] == owner for owner, place in enumerate(places) for j in range(place.start, place.end))

    present = sorted(set(owners), key=lambda owner: (mean(j for j, own in enumerate(owners) if own == owner), owner))
    spans = [(start, end) for start, end in combinations(range(len(owners) + 1), 2)]
    best = (0, 0)
    for size in range(1, len(present) + 1):
        for chosen in combinations(present, size):
            for cut in combinations(spans, size):
                apart = all(one[1] <= other[0] for one, other in pairwise(cut))
                own = [sum(owners[j] == owner for j in range(*span)) for owner, span in zip(chosen, cut, strict=True)]
                if apart and all(own):
                    best = max(best, (size, sum(own)))
    assert (len(kept), found) == best


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hi {name}, {0:.2f} {{x}} ${y} %{z} {}!", ["{name}", "{0:.2f}", "{{x}}", "${y}", "%{z}", "{}"]),
        ("%s of %1$d, %-5.2f%% %(n)s %ld %@", ["%s", "%1$d", "%-5.2f", "%%", "%(n)s", "%ld", "%@"]),
        ("100% sure, 20%ige, 5 %de, {a b} @me x@y", []),
        ("See https://e.org/a_(b), (www.e.org).", ["https://e.org/a_(b)", "www.e.org"]),
        ("http://e.org/{id}?q=%s! a.b+c@d-e.org.", ["http://e.org/{id}?q=%s", "a.b+c@d-e.org"]),
    ],
)
def test_what_is_a_placeholder(text, found):
    assert [text[start:end] for start, end in find_placeholders(text)] == found


def test_placeholders_come_back_in_place_of_what_stood_for_them():
    stand_ins = {"{n}": "Ana", "%s": "Eva", "a@b.org": None}
    pieces = read_pieces("<b>{n}</b> &amp; %skm, {n} a@b.org x")
    source = take_out(paired(hold_placeholders(pieces, stand_ins.get)), Writing.of(pieces))
    assert source.text == "Ana & Eva km, Ana  x"
    words = cut_spans(source.text)

    def back(target, links):
        found = put_back(source, target, words, cut_spans(target), links)
        return found.text, found.is_exact

    same = [(place, place) for place in range(len(words))]
    assert back("Ana & Eva km, Ana x", same) == ("<b>{n}</b> &amp; %s km, {n} a@b.org x", True)
    # What is missing stands where it would have been, and words that only contain one are no placeholders.
    assert back("Ana & Evas km, Ana x", same) == ("<b>{n}</b> &amp; %s Evas km, {n} a@b.org x", False)
    assert back("Ana & Eva Ana Ana x", [])[1] is False
