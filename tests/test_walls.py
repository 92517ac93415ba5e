"""The walls of the house: rooms import only downwards, and heavy libraries are imported only where they belong."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "nmt"

LEVELS = (
    {"architectures", "atomic_files", "errors", "types", "version"},
    {"kinds", "yaml_files"},
    {"settings", "backend"},
    {"config", "layers", "text", "tying", "alignment"},
    {"models", "search", "data"},
    {"checkpoint", "corpora", "streams", "variation"},
    {"control", "directory", "filters"},
    {"translation", "doctor"},
    {"scoring"},
    {"training", "inference"},
    {"export", "markup"},
    {"recipes", "tasks"},
    {"adaptation"},
    {"terminal"},
    {"corpus_verbs"},
    {"verbs"},
    {"cli"},
    {"__main__", "__init__"},
)
LEVEL_OF = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}

HEAVY = {
    "tensorflow": {"backend", "export"},
    "keras": {"layers", "tying", "models", "search", "training", "checkpoint", "backend", "export"},
    "sentencepiece": {"text"},
    "subword_nmt": {"text"},
    "sacrebleu": {"scoring/evaluation"},
    "safetensors": {"checkpoint"},
    "ctranslate2": {"translation", "export"},
    "matplotlib": {"tasks"},
    "pydantic": {"settings", "config", "checkpoint", "training"},
    "pydantic_core": {"settings", "config"},
    "yaml": {"yaml_files"},
    "typer": {"terminal", "verbs", "corpus_verbs", "cli"},
    "click": {"terminal", "verbs", "corpus_verbs", "cli"},
    "rich": {"terminal", "verbs"},
}


class Import(NamedTuple):
    """A module that imports another: the place of the import, and the full name of what it asks for."""

    importer: str
    line: int
    imported: str

    @property
    def place(self):
        return f"nmt/{self.importer}.py line {self.line}"

    @property
    def room(self):
        return self.importer.split("/")[0]


def modules():
    return {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(name, source):
    """All imports of a module, at its top and inside functions, also those for type checkers only."""
    package = ["nmt", *name.split("/")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(name, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # `from nmt import config` asks for a room, so the name counts too.
            yield from (Import(name, node.lineno, f"{module}.{alias.name}") for alias in node.names)


def upward(imported):
    """What is wrong with an import of our own, or None."""
    parts = imported.imported.split(".")
    if parts[0] != "nmt":
        return None
    other = parts[1] if len(parts) > 1 else "__init__"
    if other not in LEVEL_OF or imported.room not in LEVEL_OF:
        return f"{imported.place} imports {imported.imported}: put the new room into LEVELS of this test and DESIGN"
    if other == imported.room or LEVEL_OF[other] < LEVEL_OF[imported.room]:
        return None
    return (
        f"{imported.place} imports {imported.imported}, but {imported.room} may import only what lies below it: move "
        f"what it needs down, or pass it in as an argument"
    )


def misplaced(imported):
    """What is wrong with an import of a heavy library, or None."""
    library = imported.imported.split(".")[0]
    homes = HEAVY.get(library)
    if homes is None or imported.room in homes or imported.importer in homes:
        return None
    return (
        f"{imported.place} imports {library}, which belongs to {', '.join(sorted(homes))}: call a function of that "
        "room instead"
    )


ALL_IMPORTS = [found for name, path in modules().items() for found in imports_of(name, path.read_text("utf-8"))]


def test_enough_is_checked():
    assert len(modules()) >= 70
    assert sum(found.imported.startswith("nmt.") for found in ALL_IMPORTS) >= 250
    assert {found.imported.split(".")[0] for found in ALL_IMPORTS} >= {"tensorflow", "keras", "pydantic", "typer"}
    rooms = {name.split("/")[0] for name in modules()}
    assert rooms <= set(LEVEL_OF), f"put into LEVELS: {rooms - set(LEVEL_OF)}"


def test_rooms_import_only_downwards():
    problems = [problem for found in ALL_IMPORTS if (problem := upward(found))]
    assert not problems, "\n" + "\n".join(problems)


def test_heavy_libraries_stay_where_they_belong():
    problems = [problem for found in ALL_IMPORTS if (problem := misplaced(found))]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("search/beam", "from nmt.models.rnn import RNN"),
        ("search/beam", "import nmt.training"),
        ("data/store", "def f():\n    from nmt.cli import main"),
        ("models/rnn", "from ..search import beam_search"),
        ("text/pair", "from nmt import inference"),
        ("errors", "from nmt.config import Config"),
        ("settings/data", "from nmt.backend import loops"),
    ],
)
def test_an_upward_import_is_found(name, source):
    assert [upward(found) for found in imports_of(name, source)] != [None]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("cli/main", "from nmt.recipes import train"),
        ("models/rnn", "from .contract import Seq2Seq"),
        ("models/rnn", "from ..layers import attention"),
    ],
)
def test_a_downward_import_is_not(name, source):
    assert [upward(found) for found in imports_of(name, source)] == [None]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("data/store", "import tensorflow as tf"),
        ("inference/translator", "def f():\n    import keras"),
        ("inference/translator", "from sacrebleu.metrics import BLEU"),
        ("recipes/train", "from yaml import safe_load"),
    ],
)
def test_a_misplaced_library_is_found(name, source):
    assert [misplaced(found) for found in imports_of(name, source)] != [None]


def test_a_fast_test_starts_no_process():
    """Which `tests/conftest.py` sees to; `make test-fast` rests on it."""
    with pytest.raises(RuntimeError, match=r"starts_no_process starts a process: .*pytest\.mark\.slow"):
        subprocess.run([sys.executable, "-c", ""], check=True)


SHOW_HEAVY = "import sys; print(sorted({'tensorflow', 'keras', 'numpy', 'pydantic', 'rich'} & set(sys.modules)))"


@pytest.mark.slow
@pytest.mark.parametrize(
    "program",
    [
        f"import nmt; {SHOW_HEAVY}",
        f"import nmt.cli.main as m; m.typer.echo = lambda *a, **k: None; m.main(['--help']); {SHOW_HEAVY}",
    ],
    ids=["import nmt", "nmt --help"],
)
def test_what_is_light_loads_nothing_heavy(program):
    """Which makes it fast; `benchmarks/latency.py` says how fast."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert done.stdout.splitlines()[-1] == "[]"
