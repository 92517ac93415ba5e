"""Draw docs/pictures/rooms.svg: the rooms of the house, and the ways of a batch and of a line through them.

    python docs/pictures/rooms.py

Boxes are rooms of nmt/; a room imports only from boxes that stand lower. Numbers are the steps of the two traces in
docs/design.md.
"""

from pathlib import Path

WIDTH, HEIGHT = 960, 690
BATCH, LINE, INK, PAPER = "#b3541e", "#1f6f8b", "#2b2b2b", "#ffffff"

ROOMS = {  # name: (x, y, width, what it does)
    "cli, verbs, terminal": (30, 60, 900, "arguments in, exit status out"),
    "recipes": (30, 130, 420, "make and change models; wire all rooms"),
    "tasks": (510, 130, 420, "use models; wire all rooms"),
    "export": (30, 200, 420, "other engines"),
    "markup": (510, 200, 420, "tags and placeholders"),
    "training": (30, 270, 420, "loop, update, loss, schedules"),
    "inference": (510, 270, 420, "translator, compiled searches, alignment"),
    "scoring": (30, 340, 420, "BLEU, chrF, forced scores, the best of several"),
    "translation": (510, 340, 420, "lines to searches and back"),
    "control": (30, 410, 280, "phrases, prefixes, glossary"),
    "directory, doctor": (340, 410, 280, "what lies in a model directory; doubts"),
    "checkpoint, corpora": (650, 410, 280, "weights on disk; files of corpora"),
    "models": (30, 480, 280, "ids to logits"),
    "search": (340, 480, 280, "logits to hypotheses"),
    "data, alignment": (650, 480, 280, "corpora, store, batches; word links"),
    "layers": (30, 550, 280, "embedding, attention, cells"),
    "tying": (340, 550, 280, "which roles are one variable"),
    "text": (650, 550, 280, "tokenizers, vocabularies"),
    "config, settings": (30, 620, 280, "typed settings"),
    "backend": (340, 620, 280, "the door to TensorFlow"),
    "files, types, errors": (650, 620, 280, "words that all rooms share"),
}
BOX_HEIGHT = 48

MARKS = [  # (colour, step, room, places from its right edge)
    (BATCH, "1", "recipes", 0), (BATCH, "2", "data, alignment", 1), (BATCH, "3", "text", 1),
    (BATCH, "4", "data, alignment", 0), (BATCH, "5", "training", 1), (BATCH, "6", "models", 1),
    (BATCH, "7", "backend", 0), (BATCH, "8", "training", 0), (BATCH, "9", "checkpoint, corpora", 1),
    (LINE, "a", "cli, verbs, terminal", 0), (LINE, "b", "tasks", 0), (LINE, "c", "checkpoint, corpora", 0),
    (LINE, "d", "translation", 1), (LINE, "e", "text", 0), (LINE, "f", "models", 0), (LINE, "g", "search", 0),
    (LINE, "h", "translation", 0),
]  # fmt: skip


def box(name: str) -> str:
    """One room: its name and what it does."""
    x, y, width, job = ROOMS[name]
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{BOX_HEIGHT}" rx="6" fill="#f4f1ea" stroke="{INK}"/>'
        f'<text x="{x + 12}" y="{y + 20}" font-weight="bold">{name}</text>'
        f'<text x="{x + 12}" y="{y + 38}" font-size="12">{job}</text>'
    )


def mark(colour: str, step: str, room: str, place: int) -> str:
    """One numbered step of a trace, in the room where it happens."""
    x, y, width, _ = ROOMS[room]
    centre = x + width - 24 - 32 * place
    return (
        f'<circle cx="{centre}" cy="{y + 24}" r="12" fill="{colour}"/>'
        f'<text x="{centre}" y="{y + 29}" fill="{PAPER}" font-weight="bold" text-anchor="middle">{step}</text>'
    )


def main() -> None:
    """Write the picture beside this file."""
    legend = (
        f'<circle cx="42" cy="30" r="12" fill="{BATCH}"/><text x="62" y="35">a batch: from text to an update</text>'
        f'<circle cx="342" cy="30" r="12" fill="{LINE}"/><text x="362" y="35">a line: from standard input to its '
        "translation</text>"
    )
    body = "".join([legend, *map(box, ROOMS), *(mark(*row) for row in MARKS)])
    font = 'font-family="DejaVu Sans, Arial, sans-serif" font-size="14"'
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {font} fill="{INK}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>{body}</svg>\n'
    )
    Path(__file__).with_suffix(".svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
