"""What the pages show is true: their commands run, their links lead somewhere, their trees and figures are the code's.

Commands of README.md and of pages of docs/ run in this process, in a folder that
holds the configs and a shortened travel corpus. What trains gets settings that make it tiny, and nothing is compiled,
which would take most of the time (other tests do it); `make` and `pip` are only looked up.
"""

import contextlib
import gzip
import io
import itertools
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from nmt.cli.main import main

ROOT = Path(__file__).parents[1]
SKIPPED_FOLDERS = {"build", "dist", "exports", "runs"}
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in SKIPPED_FOLDERS for part in path.relative_to(ROOT).parts)
)
LEAST_PAGES = 7
VERBS = (
    "train", "translate", "evaluate", "inspect", "export", "average", "update-vocab", "build-vocab", "check-config",
    "align", "align-corpus", "attention", "score", "rerank", "tune-search", "build-shortlist", "convert", "split",
    "doctor", "adapt", "vary",
)  # fmt: skip

TINY = [
    f"--set={setting}"
    for setting in (
        "data.tokenizer.vocabulary_size=300",
        "model.hidden_size=8",
        "model.ffn_size=16",
        "model.num_heads=2",
        "model.num_encoder_layers=1",
        "model.num_decoder_layers=1",
        "training.batch_tokens=512",
        "training.max_updates=3",
        "training.validate_every_updates=3",
        "training.save_every_updates=1",
        "training.schedule.warmup_updates=1",
        "training.early_stopping=null",
        "training.tensorboard=false",
        "search.max_length_ratio=0",
        "search.max_length_offset=4",
    )
]
LINES = {"train": 300, "validation": 5, "test": 5}
"""Lines of the travel corpus that are used."""


class Block(NamedTuple):
    """A fenced block of a page."""

    place: str
    language: str
    text: str

    @property
    def lines(self):
        return [line for line in self.text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def blocks_of(path):
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(f"{path.relative_to(ROOT)} line {line}", match[1], match[2])


def without_blocks(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


# Running what a page shows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as README's reader has it, with less text; `corpus/` stands for text of the reader's own."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "examples/travel").mkdir(parents=True)
    (folder / "corpus").mkdir()
    for role, count in LINES.items():
        for side in ("es", "en"):
            name = f"{role}.{side}"
            with gzip.open(ROOT / f"examples/travel/{name}.gz") as file:
                content = b"".join(itertools.islice(file, count))
            (folder / f"examples/travel/{name}.gz").write_bytes(gzip.compress(content))
            (folder / "corpus" / name).write_bytes(content)
    return folder


@pytest.fixture
def reader(folder, eagerly, monkeypatch):
    monkeypatch.chdir(folder)
    return Reader()


class Reader:
    """Does what a page says, block by block, and counts it."""

    def __init__(self):
        self.commands = []

    def follow(self, block):
        if block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})
            assert output.getvalue().strip(), f"{block.place}: prints nothing"
            self.commands.append("python")
        elif block.language == "yaml":
            name = block.text.splitlines()[0].removeprefix("# ")
            assert name.endswith(".yaml"), f"{block.place}: must begin with a comment that names the file"
            Path(name).write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            for line in block.lines:
                self.run_line(line, block.place)

    def run_line(self, line, place):
        """Runs a pipeline; understands `|`, `<`, `>` and comments."""
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>&;")
        lexer.whitespace_split = True
        piped = b""
        for is_bar, words in itertools.groupby(lexer, key=lambda word: word == "|"):
            if not is_bar:
                piped = self.run_command(list(words), piped, f"{place}: {line}")

    def run_command(self, words, piped, place):
        target = None
        while len(words) > 2 and words[-2] in "<>":
            if words[-2] == "<":
                piped = Path(words[-1]).read_bytes()
            else:
                target = Path(words[-1])
            words = words[:-2]
        assert not set("<>&;") & set(words), f"{place}: this test cannot run that"
        output = PROGRAMS[words[0]](words[1:], piped, place)
        self.commands.append(" ".join(words[:2]))
        if target is not None:
            target.write_bytes(output)
        return output


def run_nmt(arguments, piped, place):
    if arguments[0] in ("train", "build-vocab"):
        arguments = [*arguments, *TINY]
    stdin, stdout = (io.TextIOWrapper(io.BytesIO(content), encoding="utf-8") for content in (piped, b""))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stdout", stdout)
        patch.setenv("COLUMNS", "100")
        status = main(arguments)
    stdout.flush()
    assert status == 0, f"{place}: ends with status {status}"
    return stdout.buffer.getvalue()


def look_up_make(arguments, piped, place):
    rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert arguments, f"{place}: names no target"
    assert set(arguments) <= set(rules), f"{place}: the Makefile has no such target, it has {rules}"
    return b""


def look_up_install(arguments, piped, place):
    assert arguments == ["install", "."], f"{place}: only `pip install .` is known here"
    assert (ROOT / "setup.py").is_file()
    return b""


PROGRAMS = {
    "nmt": run_nmt,
    "make": look_up_make,
    "pip": look_up_install,
    "echo": lambda arguments, piped, place: (" ".join(arguments) + "\n").encode(),
    "printf": lambda arguments, piped, place: arguments[0].replace("\\t", "\t").replace("\\n", "\n").encode(),
    "cat": lambda arguments, piped, place: b"".join(Path(name).read_bytes() for name in arguments),
}


@pytest.mark.parametrize(
    ("page", "least_blocks", "expected"),
    [
        ("README.md", 6, {"make quickstart", "make test", "pip install", *(f"nmt {verb}" for verb in VERBS), "python"}),
        ("docs/quickstart.md", 8, {"pip install", "nmt --version", "nmt check-config", "nmt train", "nmt translate",
                                   "nmt evaluate", "python"}),
        ("docs/weight_tying.md", 3, {"nmt train", "nmt inspect", "python"}),
        ("docs/translation.md", 6, {"nmt train", "nmt translate", "cat runs/travel/part.1.gz"}),
        ("docs/export.md", 2, {"nmt train", "nmt export", "nmt translate", "python"}),
        ("docs/data.md", 5, {"nmt convert", "nmt split", "nmt check-config", "nmt doctor"}),
        ("docs/adaptation.md", 1, {"nmt check-config", "nmt train"}),
        ("docs/python.md", 9, {"nmt train", "python"}),
    ],
)  # fmt: skip
def test_what_a_page_shows_runs(page, least_blocks, expected, reader):
    blocks = [block for block in blocks_of(ROOT / page) if block.language not in ("", "text")]
    assert len(blocks) >= least_blocks
    assert {block.language for block in blocks} <= {"bash", "python", "yaml"}, "this test cannot run that language"
    for block in blocks:
        reader.follow(block)
    assert len(reader.commands) >= min(2 * least_blocks - 4, len(blocks))
    assert expected <= set(reader.commands), f"not shown any more: {expected - set(reader.commands)}"


def test_a_pipe_of_a_page_gives_as_many_lines_as_asked_for(reader):
    reader.run_line("nmt train configs/quickstart.yaml  # again, or for the first time", "here")
    reader.run_line('echo "Hola." | nmt translate runs/travel --n-best 2 --format tsv > two.tsv', "here")
    found = [line.split("\t")[:2] for line in Path("two.tsv").read_text("utf-8").splitlines()]
    assert found == [["1", "1"], ["1", "2"]]


@pytest.mark.parametrize("line", ["make tset", "nmt trian configs/quickstart.yaml", "rm -r runs", "nmt train a && ls"])
def test_a_wrong_line_is_found(line, reader):
    with pytest.raises((AssertionError, KeyError)):
        reader.run_line(line, "here")


# Options and verbs


@pytest.fixture(scope="module")
def options():
    """The options of each verb, and of `nmt` itself under the empty name, as their help pages list them."""
    pages = {verb: run_nmt([*([verb] if verb else []), "--help"], b"", verb).decode() for verb in ("", *VERBS)}
    return {verb: set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text)) for verb, text in pages.items()}


def shown_code(path):
    """Every span and every line of a block of code on a page, cut at pipes."""
    text = path.read_text(encoding="utf-8")
    spans = re.findall(r"``?([^`]+)``?", without_blocks(text))
    lines = [line for block in blocks_of(path) for line in block.lines]
    indented = re.findall(r"^ {4}(.+)$", without_blocks(text), re.MULTILINE)
    return [part.strip() for code in (*spans, *lines, *indented) for part in code.split("|")]


def unknown_options(code, options):
    """What a piece of code asks of `nmt` that its help does not know."""
    asked = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", code.split("#")[0]))
    words = code.split()
    if words and words[0] == "nmt":
        verb = words[1] if len(words) > 1 and not words[1].startswith("-") else ""
        return asked - options[verb] if verb in options else {verb}
    if words and words[0].startswith("--"):
        return asked - set().union(*options.values())
    return set()


def test_every_option_and_verb_on_a_page_exists(options):
    checked, problems = 0, []
    for path in PAGES:
        for code in shown_code(path):
            checked += code.startswith(("nmt ", "--"))
            problems += [f"{path.name}: {code}: {name}" for name in unknown_options(code, options)]
    assert checked >= 40
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("code", ["nmt train a.yaml --beam-size 5", "nmt scores x", "--beamsize 4", "nmt translate -x"])
def test_an_unknown_option_or_verb_is_found(code, options):
    assert unknown_options(code, options)


# Links, the tree, the table


def anchors_of(path):
    headings = re.findall(r"^#+ (.+)$", without_blocks(path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_relative_link_leads_somewhere():
    checked, broken = 0, []
    for path in PAGES:
        text = without_blocks(path.read_text(encoding="utf-8"))
        for link in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
            if re.match(r"\w+:", link):
                continue
            checked += 1
            name, _, anchor = link.partition("#")
            goal = path.parent / name if name else path
            if not goal.exists() or (anchor and anchor not in anchors_of(goal)):
                broken.append(f"{path.relative_to(ROOT)}: {link}")
    assert len(PAGES) >= LEAST_PAGES
    assert checked >= 15
    assert not broken, "\n".join(broken)


def test_the_tree_in_the_readme_is_that_of_the_repository():
    tree = next(block.text for block in blocks_of(ROOT / "README.md") if block.text.startswith("nmt/"))
    entries = [line.split()[0] for line in tree.splitlines()]
    comments = [line.split(maxsplit=1)[1:] for line in tree.splitlines()[1:]]
    split = next(i for i, line in enumerate(tree.splitlines()) if i and not line.startswith(" "))
    rooms, around = entries[1:split], entries[split:]
    package = {path.name + "/" for path in (ROOT / "nmt").iterdir() if (path / "__init__.py").is_file()}
    package |= {path.name for path in (ROOT / "nmt").glob("*.py") if not path.name.startswith("__")}
    assert len(package) >= 15
    assert sorted(rooms) == sorted(package)
    assert all(comments), "each line of the tree needs its comment"
    assert all((ROOT / name).is_dir() for name in around)
    assert {"configs/", "examples/", "docs/", "tests/"} <= set(around)


def test_the_figures_of_parameters_are_those_of_the_models(monkeypatch):
    from nmt.config import load
    from nmt.models.contract import TIED_ROLES, Vocabularies, build_model

    monkeypatch.setenv("MULTI30K", "/nowhere")
    page = re.sub(r" *\| *", "|", (ROOT / "docs/weight_tying.md").read_text(encoding="utf-8"))
    savings = []
    for kind in ("transformer", "rnn"):
        config = load(ROOT / f"configs/multi30k_de_en_{kind}.yaml")
        size, settings = config.data.tokenizer.vocabulary_size, config.model.model_dump()
        sizes = Vocabularies(size, size, shared=True)
        counts = {
            ties: build_model(sizes, seed=1, **{**settings, "tie_embeddings": ties}).count_params()
            for ties in TIED_ROLES
        }
        for ties, count in counts.items():
            assert f"|`{ties}`|{count:,}|" in page, f"docs/weight_tying.md must have {count:,} for {kind}, {ties}"
        savings.append(round(100 * (1 - counts["all"] / counts["none"])))
    claim = f"({savings[0]} to {savings[1]} % of the parameters of a small model)"
    assert claim in (ROOT / "README.md").read_text(encoding="utf-8")
