"""Inline tags: taken out of a line before it is translated, and put back into its translation by word alignment.

A tag goes around the hull of the words that are aligned to its own, and where hulls cross, the nesting of the source
decides (Hanneman and Dinu 2020, https://aclanthology.org/2020.wmt-1.138): what is apart there stays apart, what is
within stays within. So the result is well nested whatever the alignment is.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from html.entities import html5
from itertools import accumulate, groupby, islice, pairwise
from typing import NamedTuple, TypeAlias

from nmt.control.phrases import is_word
from nmt.text.offsets import Span

Links: TypeAlias = "Iterable[tuple[int, int]]"
"""Places of a source word and of the target word it is linked to, from 0."""


class Kind(Enum):
    """What a piece of a line is."""

    TEXT = "text"
    OPENING = "opening tag"
    CLOSING = "closing tag"
    LONE = "tag without a partner"
    HELD = "placeholder"


class Piece(NamedTuple):
    """A piece of a line.

    written: as the line has it.
    text: of text, what it says: with its entities decoded.
    name: of a tag.
    is_lone: of an opening or closing tag, whether it has no partner in the line.
    """

    kind: Kind
    written: str
    text: str = ""
    name: str = ""
    is_lone: bool = False


_TAG = re.compile(
    r"""<!--.*?-->|<\?.*?\?>|<!\[CDATA\[(?P<literal>.*?)\]\]>|</(?P<closed>[^\W\d][\w:.-]*)\s*>
    |<(?P<opened>[^\W\d][\w:.-]*)(?:\s+[\w:.-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*\s*(?P<ends>/?)>""",
    re.VERBOSE,
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LIKE_MARKUP = re.compile(r"<(?=[^\W\d]|[/!?])|&(?=#?\w+;)")
"""Signs that a reader of XML takes for the beginning of a tag or an entity."""
_LIKE_TAG = re.compile(r"<(?=/?[^\W\d])")

_ESCAPED = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_VOID = frozenset(("area", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"))
"""Elements of HTML that need no closing tag."""


def read_pieces(line: str) -> list[Piece]:
    """Cut a line into text and tags; a `<` that begins no well-formed tag is text."""
    pieces, done = list[Piece](), 0
    for match in _TAG.finditer(line):
        if match.start() > done:
            pieces.append(_text_piece(line[done : match.start()]))
        done = match.end()
        literal, closed, opened, ends = match["literal"], match["closed"], match["opened"], match["ends"]
        if literal is not None:
            pieces.append(Piece(Kind.TEXT, "", literal))
        else:
            kind = Kind.CLOSING if closed else Kind.OPENING if opened and not ends else Kind.LONE
            pieces.append(Piece(kind, match[0], name=closed or opened or ""))
    return [*pieces, _text_piece(line[done:])] if done < len(line) else pieces


def count_malformed(pieces: Iterable[Piece]) -> int:
    """How many signs of the text look as if they began a tag."""
    return sum(len(_LIKE_TAG.findall(piece.written)) for piece in pieces if piece.kind is Kind.TEXT)


def _text_piece(written: str) -> Piece:
    return Piece(Kind.TEXT, written, _ENTITY.sub(lambda match: _decoded(match[0]), written))


def _decoded(entity: str) -> str:
    """What an entity says; one that is unknown, or says nothing, is text."""
    return (html.unescape(entity) if entity[1] == "#" else html5.get(entity[1:])) or entity


class Writing(NamedTuple):
    """How a line writes characters: its translation does so too.

    entities: by character that the line writes in no other way.
    bare: the characters that it writes as they are.
    """

    entities: Mapping[str, str] = {}
    bare: frozenset[str] = frozenset("&<>")

    @classmethod
    def of(cls, pieces: Iterable[Piece]) -> Writing:
        """Look at the text of a line."""
        entities, bare = dict[str, str](), set[str]()
        for written in (piece.written for piece in pieces if piece.kind is Kind.TEXT):
            for entity in _ENTITY.findall(written):
                entities.setdefault(_decoded(entity), entity)
            bare.update(_ENTITY.sub("", written))
        return cls({text: entity for text, entity in entities.items() if text not in bare}, frozenset(bare))

    def written(self, text: str) -> str:
        """Encode text as the line does; `&`, `<` and `>` also where it has none, or where they would read as markup."""
        return "".join(self.signs(text))

    def signs(self, text: str) -> list[str]:
        """Return the same, sign by sign."""
        if self is PLAIN:
            return [*text]
        marked = {match.start() for match in _LIKE_MARKUP.finditer(text)}
        return [
            self.entities.get(sign) or (sign if sign in self.bare and place not in marked else _ESCAPED.get(sign, sign))
            for place, sign in enumerate(text)
        ]


PLAIN = Writing()
"""Characters as they are."""


def paired(pieces: Sequence[Piece]) -> list[Piece]:
    """Make tags well nested: one without a partner is lone, and so is an element without text, all of it.

    A closing tag belongs to the last opening one of its name; what was opened between stays without a partner.
    """
    partners = _partners(pieces)
    # How many pieces with text there are up to each.
    spoken = [0]
    for piece in pieces:
        spoken.append(spoken[-1] + (piece.kind in (Kind.TEXT, Kind.HELD) and bool(piece.text.strip())))
    found, place = list[Piece](), 0
    while place < len(pieces):
        piece, partner = pieces[place], partners.get(place)
        if piece.kind is Kind.OPENING and partner is not None and spoken[partner] == spoken[place]:
            written = "".join(each.written for each in pieces[place : partner + 1])
            found.append(Piece(Kind.LONE, written, is_lone=True))
            place = partner
        elif piece.kind is Kind.OPENING and partner is None and piece.name.lower() in _VOID:
            found.append(piece._replace(kind=Kind.LONE, is_lone=True))
        elif piece.kind in (Kind.OPENING, Kind.CLOSING) and partner is None:
            found.append(piece._replace(is_lone=True))
        else:
            found.append(piece)
        place += 1
    return found


def _partners(pieces: Sequence[Piece]) -> dict[int, int]:
    """For opening and closing tags the places of their partners."""
    partners, opened, names = dict[int, int](), list[int](), Counter[str]()
    for place, piece in enumerate(pieces):
        if piece.kind is Kind.OPENING:
            opened.append(place)
            names[piece.name] += 1
        elif piece.kind is Kind.CLOSING and names[piece.name]:
            last = None
            while last is None or pieces[last].name != piece.name:
                last = opened.pop()
                names[pieces[last].name] -= 1
            partners[last], partners[place] = place, last
    return partners


class Tag(NamedTuple):
    """A tag as it stands in its line.

    kind: of the piece.
    before, after: whether there is a space on this side.
    separates: whether it parts two words without a space.
    """

    written: str
    kind: Kind
    before: bool
    after: bool
    separates: bool = False


class Element(NamedTuple):
    """An element, or a tag without a partner, which is empty.

    parent: its place among the elements, in the order in which they begin; -1 if it is in none.
    start, end: of its text, as offsets into the line without tags.
    opening: or the only tag.
    closing: None of a tag without a partner.
    """

    parent: int
    start: int
    end: int
    opening: Tag
    closing: Tag | None


class Held(NamedTuple):
    """A placeholder in the line without tags.

    text: what stands for it there, which may be itself.
    placeholder: that it stands for.
    """

    start: int
    end: int
    text: str
    placeholder: str


class Marked(NamedTuple):
    """A line whose tags were taken out.

    text: that is translated.
    elements: in the order in which they begin.
    held: the placeholders in the text, from left to right.
    writing: of its characters.
    unpaired: how many tags have no partner, though they need one.
    """

    text: str
    elements: tuple[Element, ...] = ()
    held: tuple[Held, ...] = ()
    writing: Writing = PLAIN
    unpaired: int = 0

    @property
    def says_nothing(self) -> bool:
        """Whether there are tags or placeholders, and no words besides."""
        rest = list(self.text)
        for held in self.held:
            rest[held.start : held.end] = " " * (held.end - held.start)
        return bool(self.elements or self.held) and not any(map(is_word, rest))


def take_out(pieces: Sequence[Piece], writing: Writing = PLAIN) -> Marked:
    """Put the line without its tags together.

    Where tags alone part two words, as in `one<br/>two` and `<li>one</li><li>two</li>`, there is a space.

    Args:
        pieces: `paired`; a placeholder's `text` is what stands for it.
        writing: of the line.
    """
    parting = _parting(pieces)
    text, elements, opened, held = "", list[Element](), list[int](), list[Held]()
    for place, piece in enumerate(pieces):
        if piece.kind in _SPOKEN:
            if place - 1 in parting or (_is_held(pieces, place) and _is_glued(text, piece.text)):
                text += " "
            if piece.kind is Kind.HELD:
                held.append(Held(len(text), len(text) + len(piece.text), piece.text, piece.written))
            text += piece.text
            continue
        before = place > 0 and pieces[place - 1].text[-1:].isspace()
        after = place + 1 < len(pieces) and pieces[place + 1].text[:1].isspace()
        tag = Tag(piece.written, piece.kind, before, after, place in parting)
        if piece.kind is Kind.CLOSING and not piece.is_lone:
            index = opened.pop()
            elements[index] = elements[index]._replace(end=len(text), closing=tag)
        else:
            elements.append(Element(opened[-1] if opened else -1, len(text), len(text), tag, None))
            if piece.kind is Kind.OPENING and not piece.is_lone:
                opened.append(len(elements) - 1)
    unpaired = sum(piece.is_lone and piece.kind is not Kind.LONE for piece in pieces)
    return Marked(text, tuple(elements), tuple(held), writing, unpaired)


_SPOKEN = (Kind.TEXT, Kind.HELD)


def _is_held(pieces: Sequence[Piece], place: int) -> bool:
    """Whether one of a piece and the one before it is a placeholder."""
    return any(piece.kind is Kind.HELD for piece in pieces[max(place - 1, 0) : place + 1])


def _is_glued(before: str, after: str) -> bool:
    """Whether two texts that follow each other make a word together."""
    return bool(before and after) and is_word(before[-1]) and is_word(after[0])


def _parting(pieces: Sequence[Piece]) -> set[int]:
    """The places of tags that part two words without a space."""
    parting, last, run = set[int](), "", list[int]()
    for place, piece in enumerate(pieces):
        if piece.kind not in _SPOKEN:
            run.append(place)
            continue
        kinds = [pieces[each].kind for each in run]
        breaks = Kind.LONE in kinds or (Kind.CLOSING, Kind.OPENING) in pairwise(kinds)
        if breaks and _is_glued(last, piece.text):
            parting.update(run)
        last, run = piece.text, []
    return parting


def _covered(spans: Sequence[Span], start: int, end: int) -> Span:
    """Which of the words, given by their characters, have characters of a span; of an empty one, the place of a gap."""
    first = bisect_right([word_end for _, word_end in spans], start)
    return first, max(first, bisect_left([word_start for word_start, _ in spans], end))


class Place(NamedTuple):
    """Where an element goes: around words of the translation, counted from 0, or into a gap between two.

    is_guess: whether no alignment told.
    """

    start: int
    end: int
    is_guess: bool = False


def place_elements(
    elements: Sequence[Element], source_words: Sequence[Span], num_target_words: int, links: Links
) -> list[Place]:
    """Find the place of each element in a translation: the hull of the words that are aligned to its own.

    An element with all words that its parent has, or the line, goes around all words there too. Other elements of one
    parent are kept apart: each has a hull of its own, such that as few aligned words as possible are outside of theirs.
    An element whose words have no link, and a tag without a partner, go where they part the aligned words as in the
    source, or nearly so.

    Args:
        elements: of the source.
        source_words: their characters.
        num_target_words: of the translation.
        links: between both.
    """
    covered = [_covered(source_words, element.start, element.end) for element in elements]
    children = defaultdict[int, list[int]](list)
    for index, element in enumerate(elements):
        children[element.parent].append(index)
    places = {-1: Place(0, num_target_words)}
    all_links = sorted(set(links))
    for parent in (-1, *range(len(elements))):
        if parent not in children:
            continue
        words, room = covered[parent] if parent >= 0 else (0, len(source_words)), places[parent]
        inner = [(i, j) for i, j in all_links if words[0] <= i < words[1] and room.start <= j < room.end]
        spans = {each: covered[each] for each in children[parent] if elements[each].closing is not None}
        hulls = _hulls(spans, inner)
        if len(spans) == 1 and words in spans.values() and room.start < room.end:
            hulls = dict.fromkeys(spans, (room.start, room.end))
        for each in children[parent]:
            if each in hulls:
                places[each] = Place(*hulls[each])
                continue
            gap, is_guess = _gap(elements[each], covered[each], words, room, inner)
            for other, (start, end) in hulls.items():
                if start < gap < end:
                    gap = start if covered[each] < covered[other] else end
            places[each] = Place(gap, gap, is_guess or each in spans)
    return [places[index] for index in range(len(elements))]


def _hulls(spans: Mapping[int, Span], links: Sequence[tuple[int, int]]) -> dict[int, Span]:
    """For elements with linked words the target words that they go around, kept apart; `spans` are of source words."""
    owners = dict[int, int]()
    for each, (start, end) in spans.items():
        for word in range(start, end):
            owners.setdefault(word, each)
    votes = defaultdict[int, Counter[int]](Counter)
    for i, j in links:
        if i in owners:
            votes[j][owners[i]] += 1
    words = defaultdict[int, list[int]](list)
    for j in sorted(votes):
        words[votes[j].most_common(1)[0][0]].append(j)
    hulls = {each: (own[0], own[-1] + 1) for each, own in words.items()}
    in_order = sorted(hulls.values())
    if all(one[1] <= next_one[0] for one, next_one in pairwise(in_order)):
        return hulls
    order = sorted(words, key=lambda each: (sum(words[each]) / len(words[each]), each))
    return _apart([words[each] for each in order], order)


def _apart(words: Sequence[Sequence[int]], names: Sequence[int]) -> dict[int, Span]:
    """Find intervals that share nothing, in a given order, and of as many sets of words as can be.

    Of such intervals those that hold the most words of their own sets, and then the fewest others. Found by dynamic
    programming from word to word: in state 2 q + 1 a word is within the interval of set q, in state 2 q behind that of
    set q - 1 and before that of set q.
    """
    owner = {j: q for q, own in enumerate(words) for j in own}
    begin, end, num_states = min(owner), max(owner) + 1, 2 * len(words) + 1
    of_other, of_new = -1.0 / (end - begin + 1), float(end - begin + 1)
    best, came_from = [0.0] + [float("-inf")] * (num_states - 1), list[list[int]]()
    for j in range(begin, end):
        scores, came, leader = [best[0]], [0], 0  # leader: the best of the states before
        for state in range(1, num_states):
            previous = state if best[state] >= best[state - 1] or state % 2 else state - 1
            score = best[previous]
            if state % 2:
                is_own = owner.get(j) == state // 2
                score += 1.0 if is_own else of_other
                leader = max(leader, state - 1, key=best.__getitem__)
                leader = max(leader, max(state - 2, 0), key=best.__getitem__)
                if is_own and best[leader] + 1.0 + of_new > score:
                    previous, score = leader, best[leader] + 1.0 + of_new
            scores.append(score)
            came.append(previous)
        best = scores
        came_from.append(came)
    state, found = max(range(num_states), key=best.__getitem__), dict[int, Span]()
    for j in range(end - 1, begin - 1, -1):
        if state % 2:
            name = names[state // 2]
            found[name] = (j, found.get(name, (j, j + 1))[1])
        state = came_from[j - begin][state]
    return found


def _gap(
    element: Element, covered: Span, words: Span, room: Place, links: Sequence[tuple[int, int]]
) -> tuple[int, bool]:
    """Find where an element without words goes within its parent, and whether that is a guess.

    Args:
        element: a tag without a partner sticks to the word on one side if the other side alone has a space.
        covered: between which source words it stands.
        words: source words of the parent.
        room: of the parent in the translation.
        links: within both.
    """
    if covered[0] <= words[0]:
        return room.start, False
    if covered[0] >= words[1]:
        return room.end, False
    split = covered[0]
    before = [j for i, j in links if i == split - 1]
    after = [j for i, j in links if i == covered[1]]
    behind, ahead = max(before, default=-1) + 1, min(after, default=-1)
    tag, is_tag = element.opening, element.closing is None
    sticks_left = is_tag and (tag.kind is Kind.CLOSING or (tag.kind is Kind.LONE and tag.after and not tag.before))
    sticks_right = is_tag and (tag.kind is Kind.OPENING or (tag.kind is Kind.LONE and tag.before and not tag.after))
    if before and sticks_left:
        return behind, False
    if after and sticks_right:
        return ahead, False
    # How many links would cross the gap, for each one.
    passing = Counter[int]()
    for i, j in links:
        passing[j] += 1 if i >= split else -1
    crossings, least, gaps = 0, 0, [room.start]
    for j in range(room.start, room.end):
        crossings += passing[j]
        if crossings < least:
            least, gaps = crossings, []
        if crossings == least:
            gaps.append(j + 1)
    wished = [*([behind] if before else []), *([ahead] if after else [])]
    return next((gap for gap in wished if gap in gaps), gaps[0]), not wished


class Restored(NamedTuple):
    """A translation with its tags and placeholders.

    guessed: how many elements stand where no alignment told.
    is_exact: whether each placeholder came as often as in the source. What is missing stands where the alignment tells.
    """

    text: str
    guessed: int = 0
    is_exact: bool = True


def put_back(
    marked: Marked,
    target: str,
    source_words: Sequence[Span] = (),
    target_words: Sequence[Span] = (),
    links: Links = (),
) -> Restored:
    """Put tags and placeholders into a translation.

    Args:
        marked: the source.
        target: the translation of its text.
        source_words: the characters of words in the source.
        target_words: the characters of words in the translation.
        links: between words; those of a sign and a word do not count.
    """
    held, missing = find_held(marked.held, target)
    elements = (*marked.elements, *(_as_element(each, marked) for each in missing))
    source, source_index = _merged(source_words, [(each.start, each.end) for each in marked.held])
    words, target_index = _merged(target_words, [(each.start, each.end) for each in held])
    joined = {(source_index[i], target_index[j]) for i, j in links}
    likely = likely_links(joined, marked.text, source, target, words)
    places = place_elements(elements, source, len(words), likely)
    # Each word with what stands between it and the next one.
    starts = [0, *(start for start, _ in words[1:]), len(target)]
    texts, left = list[str](), deque(held)
    for start, end in pairwise(starts):
        text, done = "", start
        while left and left[0].start < end:
            each = left.popleft()
            text, done = text + target[done : each.start] + each.placeholder, each.end
        texts.append(text + target[done:end])
    text = _written(_in_order(elements, places, len(words)), texts, marked.writing)
    guessed = sum(place.is_guess for place in places[: len(marked.elements)])
    return Restored(text, guessed, not missing and len(held) == len(_all_held(marked.held, target)))


def _as_element(held: Held, marked: Marked) -> Element:
    """A placeholder as a tag."""
    around = (
        index
        for index, each in enumerate(marked.elements)
        if each.closing is not None and each.start <= held.start and held.end <= each.end
    )
    before, after = marked.text[: held.start][-1:].isspace(), marked.text[held.end :][:1].isspace()
    tag = Tag(marked.writing.written(held.placeholder), Kind.LONE, before, after)
    return Element(max(around, default=-1), held.start, held.start, tag, None)


def likely_links(
    links: Links, source: str, source_words: Sequence[Span], target: str, target_words: Sequence[Span]
) -> list[tuple[int, int]]:
    """Correct links of signs: words are linked to words, and a sign that both sides have equally often to itself."""
    likely = {(i, j) for i, j in links if _is_spoken(source, source_words[i]) == _is_spoken(target, target_words[j])}
    of_source, of_target = _signs(source, source_words), _signs(target, target_words)
    for sign in of_source.keys() & of_target.keys():
        if len(of_source[sign]) == len(of_target[sign]):
            ours, theirs = set(of_source[sign]), set(of_target[sign])
            likely = {(i, j) for i, j in likely if i not in ours and j not in theirs}
            likely.update(zip(of_source[sign], of_target[sign], strict=True))
    return sorted(likely)


def _signs(text: str, words: Sequence[Span]) -> dict[str, list[int]]:
    """The places of signs among the words of a text."""
    signs = defaultdict[str, list[int]](list)
    for place, span in enumerate(words):
        if not _is_spoken(text, span):
            signs[text[slice(*span)]].append(place)
    return signs


def _is_spoken(text: str, span: Span) -> bool:
    return any(map(is_word, text[slice(*span)]))


def find_held(held: Sequence[Held], target: str) -> tuple[list[Held], list[Held]]:
    """Find where the placeholders of a source stand in its translation, and those that stand nowhere."""
    places = defaultdict[str, deque[Held]](deque)
    for place in _all_held(held, target):
        places[place.text].append(place)
    missing = list[Held]()
    found = list[Held]()
    for each in held:
        if places[each.text]:
            found.append(places[each.text].popleft())
        else:
            missing.append(each)
    return sorted(found), missing


def _all_held(held: Sequence[Held], target: str) -> list[Held]:
    """All places of what stands for placeholders, whole and apart from each other."""
    found, taken = list[Held](), set[int]()
    for text, placeholder in sorted({(each.text, each.placeholder) for each in held}, key=lambda each: -len(each[0])):
        for match in whole_word(text).finditer(target):
            if taken.isdisjoint(range(*match.span())):
                taken.update(range(*match.span()))
                found.append(Held(*match.span(), text, placeholder))
    return sorted(found)


def whole_word(text: str) -> re.Pattern[str]:
    """What finds a text that neither begins nor ends within a word."""
    before, after = (r"(?<!\w)" if is_word(text[0]) else ""), (r"(?!\w)" if is_word(text[-1]) else "")
    return re.compile(before + re.escape(text) + after)


def _merged(words: Sequence[Span], spans: Sequence[Span]) -> tuple[list[Span], list[int]]:
    """Make one word of those that share a span; also tell which word each has become. Spans come from left to right."""
    merged, index, following, last = list[Span](), list[int](), 0, -1
    for start, end in words:
        while following < len(spans) and spans[following][1] <= start:
            following += 1
        shared = following if following < len(spans) and spans[following][0] < end else -1
        if shared == last >= 0:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
        index.append(len(merged) - 1)
        last = shared
    return merged, index


def _in_order(elements: Sequence[Element], places: Sequence[Place], num_words: int) -> list[Tag | int]:
    """Tags and the numbers of words, as they follow each other in the translation."""
    children = defaultdict[int, list[int]](list)
    for index, element in enumerate(elements):
        children[element.parent].append(index)
    found: list[Tag | int] = []
    # What is left to write, the next last: a tag, a word range, or an element.
    left: list[Tag | Span | int] = [-1]
    while left:
        item = left.pop()
        if isinstance(item, Tag):
            found.append(item)
        elif not isinstance(item, int):
            found.extend(range(*item))
        else:
            start, end = places[item][:2] if item >= 0 else (0, num_words)
            content: list[Tag | Span | int] = []
            # What is empty comes before what begins at the same place, and else all in the order of the source.
            for child in sorted(children[item], key=lambda each: (places[each].start, places[each].end, each)):
                content += [(start, places[child].start), child]
                start = places[child].end
            content.append((start, end))
            if item >= 0:
                closing = elements[item].closing
                content = [elements[item].opening, *content, *([closing] if closing else [])]
            left += reversed(content)
    return found


def _written(order: Sequence[Tag | int], texts: Sequence[str], writing: Writing) -> str:
    """Write words and tags, with spaces."""
    line, last = "", None
    gap = list[Tag]()
    written = _words_written(order, texts, writing)
    for place, item in enumerate([*order, None]):
        if isinstance(item, Tag):
            gap.append(item)
            continue
        before = "" if last is None else texts[last]
        after = "" if item is None else texts[item]
        line += _gap_text(gap, before, after)
        line += written.get(place, "")
        last, gap = item, []
    return line


def _words_written(order: Sequence[Tag | int], texts: Sequence[str], writing: Writing) -> dict[int, str]:
    """Write the words without their spaces, by their places in the order; those between two tags are read together."""
    found = dict[int, str]()
    for is_tag, run in groupby(enumerate(order), key=lambda each: isinstance(each[1], Tag)):
        if not is_tag:
            words = [(place, texts[item]) for place, item in run if isinstance(item, int)]
            signs = iter(writing.signs("".join(text for _, text in words)))
            for place, text in words:
                own, begin = [*islice(signs, len(text))], len(text) - len(text.lstrip())
                found[place] = "".join(own[begin : begin + len(text.strip())])
    return found


def _gap_text(tags: Sequence[Tag], before: str, after: str) -> str:
    """Write the tags between two words with their spaces; one of the words is empty at an end of the line.

    Spaces stand before opening tags and behind closing ones, unless the source has them on the other side.
    """
    has_space, is_inner = before != before.rstrip(), bool(before and after)
    if not tags:
        return " " if has_space and is_inner else ""
    spaces = [False] * (len(tags) + 1)
    # For each tag where the run of tags of its kind begins, and where it ends.
    runs = [(kind, len(list(run))) for kind, run in groupby(tag.kind for tag in tags)]
    ends = list(accumulate(length for _, length in runs))
    bounds = [(end - length, end) for (_, length), end in zip(runs, ends, strict=True) for _ in range(length)]
    for place, (tag, (first, end)) in enumerate(zip(tags, bounds, strict=True)):
        if tag.kind is Kind.LONE:
            spaces[place] |= tag.before and (has_space or not is_inner or place == 0)
            spaces[place + 1] |= tag.after and (has_space or not is_inner or is_word(after[0]))
        elif has_space or not is_inner:
            spaces[first if tag.kind is Kind.OPENING else place] |= tag.before
            spaces[place + 1 if tag.kind is Kind.OPENING else end] |= tag.after
    if is_inner and has_space and not any(spaces) and not any(tag.separates for tag in tags):
        kinds = [tag.kind for tag in tags]
        spaces[kinds.index(Kind.OPENING) if Kind.OPENING in kinds else len(tags)] = True
    if not is_inner:
        spaces[0 if not before else -1] = False
    return "".join(" " * space + tag.written for space, tag in zip(spaces, tags, strict=False)) + " " * spaces[-1]
