"""Inline tags and placeholders: random well-nested tags in the lines of a test set, translated and looked at.

    python benchmarks/markup.py runs/travel

The lines are those of the test set of the travel corpus, whose generator writes the links between the words of a line
and its reference. Two things are measured:

- of translations by the run: whether tags are well nested, and whether a tag or placeholder is lost or invented;
- of the references, aligned by the run: how many elements are around the right words by the generator's links. Right
  is one with all words that sure links of its words lead to, and no word outside of the hull of those that any link of
  them leads to; or one that is where the generator's links, sure ones or all, put it. A tag without a partner is right
  there too, or beside a word that is linked to the one beside it in the source.
"""

from __future__ import annotations

import argparse
import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from smoke import add_smoke, say

from nmt.alignment.bitext import cut_spans
from nmt.alignment.links import Gold, parse_links
from nmt.backend import session
from nmt.backend.machine import available_processors
from nmt.data.lines import read_lines
from nmt.markup.placeholders import find_placeholders
from nmt.markup.tags import Marked, Place, likely_links, paired, place_elements, read_pieces, take_out

if TYPE_CHECKING:
    from nmt import Translator

TRAVEL = Path(__file__).resolve().parents[1] / "examples" / "travel"
PLACEHOLDERS = ("{name}", "%s", "%1$d", "{0}", "https://example.com/?q=a&b=1", "info@example.org")


def with_markup(line: str, draw: random.Random, *, placeholders: bool = False) -> str:
    """The line with random well-nested tags around and between its words, each with a number.

    Half of the lines may also have a placeholder, for one of their names or numbers if they have any.
    """
    spans = cut_spans(line)
    words = [line[slice(*span)] for span in spans]
    spoken = [place for place, word in enumerate(words) if word.isalnum()]
    if placeholders and spoken and draw.random() < 0.5:
        names = [place for place in spoken if words[place].isdecimal() or (place and words[place].istitle())]
        words[draw.choice(names or spoken)] = draw.choice(PLACEHOLDERS).replace("&", "&amp;")
    before, after = ([""] * len(words) for _ in range(2))
    numbers = iter(range(9 * len(words)))

    def add(first: int, end: int, depth: int) -> None:
        place = first + draw.randrange(4)
        while depth and place < end:
            behind = min(end, place + draw.randint(1, 6))
            if draw.random() < 0.8:
                name = draw.choice("big")
                before[place] += f'<{name} id="{next(numbers)}">'
                add(place, behind, depth - 1)
                after[behind - 1] += f"</{name}>"
            else:
                after[place] += f'<br id="{next(numbers)}"/>'
            place = behind + draw.randrange(4)

    add(0, len(words), 3)
    starts = [*(start for start, _ in spans), len(line)]
    spaces = [line[end:following] for (_, end), following in zip(spans, starts[1:], strict=True)]
    return "".join("".join(parts) for parts in zip(before, words, after, spaces, strict=True))


def judge(marked: Marked, places: Sequence[Place], gold: Gold, num_words: int) -> Counter[str]:
    """Compare places with those that the generator's links tell, and count elements and lone tags that are right."""
    words, counts = cut_spans(marked.text), Counter[str]()
    told = [place_elements(marked.elements, words, num_words, links) for links in (gold.sure, gold.possible)]
    for number, (element, place) in enumerate(zip(marked.elements, places, strict=True)):
        is_right = place[:2] in [each[number][:2] for each in told]
        if element.closing is None:
            before = sum(end <= element.start for _, end in words)
            is_beside = (before - 1, place.start - 1) in gold.possible or (before, place.start) in gold.possible
            counts["lone"] += 1
            counts["right lone"] += is_right or is_beside
            continue
        own = {i for i, (start, end) in enumerate(words) if element.start < end and start < element.end}
        sure, possible = ({j for i, j in links if i in own} for links in (gold.sure, gold.possible))
        within = set(range(place.start, place.end))
        if not possible:
            counts["unlinked"] += 1
            continue
        is_right |= bool(within) and sure <= within <= set(range(min(possible), max(possible) + 1))
        counts["elements"] += 1
        counts["right elements"] += is_right
        counts["sure"] += bool(sure)
        counts["right sure"] += is_right and bool(sure)
    return counts


def measure_places(
    translator: Translator, lines: Sequence[str], references: Sequence[str], gold: Sequence[Gold]
) -> str:
    """How well the tags of lines are placed in their references."""
    from nmt.markup.translator import links_both_ways

    marked = [take_out(paired(read_pieces(line))) for line in lines]
    pairs = [(each.text, reference) for each, reference in zip(marked, references, strict=True)]
    total = Counter[str]()
    for source, found, links in zip(marked, translator.align(pairs, soft=True), gold, strict=True):
        words, num_words = found.source_words, len(found.target_words)
        likely = likely_links(links_both_ways(found), found.source, words, found.target, found.target_words)
        places = place_elements(source.elements, words, num_words, likely)
        total += judge(source, places, links, num_words)
        total["guessed"] += sum(place.is_guess for place in places)

    def share(name: str) -> str:
        right, all_ = total[f"right {name}"], total[name]
        return f"{right:,} of {all_:,} ({right / max(1, all_):.1%})"

    return (
        f"{share('elements')} elements around the right words, {share('sure')} of those whose words have a sure link; "
        f"{total['unlinked']:,} more whose words have no link; {share('lone')} tags without a partner right; "
        f"{total['guessed']:,} placed without alignment"
    )


def contents(line: str) -> tuple[Counter[tuple[str, str]], Counter[str]]:
    """The tags and the placeholders of a line, as a parser of XML reads it; it raises an error if it is no XML."""
    root = ElementTree.fromstring(f"<r>{line}</r>")
    text = "\n".join(root.itertext())
    placeholders = Counter(text[start:end] for start, end in find_placeholders(text))
    return Counter((each.tag, each.attrib["id"]) for each in root.iter() if each is not root), placeholders


def measure_translations(translator: Translator, lines: Sequence[str]) -> str:
    """Whether translations have the tags and placeholders of their lines."""
    from nmt.markup.translator import Markup

    markup, counts = Markup(translator), Counter[str]()
    began = time.process_time()
    translations = markup.translate(lines)
    seconds = time.process_time() - began
    for line, translation in zip(lines, translations, strict=True):
        (tags, placeholders), counts["lines"] = contents(line), counts["lines"] + 1
        try:
            found_tags, found_placeholders = contents(translation)
        except ElementTree.ParseError:
            counts["badly nested"] += 1
            continue
        counts["tags"] += tags.total()
        counts["placeholders"] += placeholders.total()
        counts["tags lost"] += (tags - found_tags).total()
        counts["tags invented"] += (found_tags - tags).total()
        counts["placeholders lost"] += (placeholders - found_placeholders).total()
        counts["placeholders invented"] += (found_placeholders - placeholders).total()
    markup.tally.report()
    began = time.process_time()
    translator.translate([take_out(paired(read_pieces(line))).text for line in lines])
    plain = time.process_time() - began
    names = ("badly nested", "tags lost", "tags invented", "placeholders lost", "placeholders invented")
    return (
        f"{counts['lines']:,} lines with {counts['tags']:,} elements and {counts['placeholders']:,} placeholders: "
        + ", ".join(f"{counts[name]} {name}" for name in names)
        + f"; {seconds:.0f} processor seconds, {plain:.0f} without markup"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="model directory of the travel corpus")
    parser.add_argument("--lines", type=int, default=1000, help="first lines of the test set")
    parser.add_argument("--seed", type=int, default=1)
    add_smoke(parser)
    options = parser.parse_args()
    count = 20 if options.smoke else options.lines
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nmt").setLevel(logging.INFO)
    session.start(threads=available_processors(), a_core_each=True)
    from nmt import Translator

    translator = Translator.load(options.run)
    sources, references = (list(read_lines(TRAVEL / f"test.{language}.gz"))[:count] for language in ("es", "en"))
    gold = [parse_links(line) for line in list(read_lines(TRAVEL / "test.links.gz"))[:count]]
    draw = random.Random(options.seed)
    tagged = [with_markup(line, draw) for line in sources]
    say("places")
    print(f"places: {measure_places(translator, tagged, references, gold)}")
    say("translations")
    held = [with_markup(line, draw, placeholders=True) for line in sources]
    print(f"translations: {measure_translations(translator, held)}")


if __name__ == "__main__":
    main()
