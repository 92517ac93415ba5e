"""What can be exchanged: for each setting that chooses by a word, what is built of that word; and the files with more.

Our own kinds stand here as "module:name", which is imported when it is needed, so that this module is light. Kinds of a
user's own come from Python files that are loaded where the user names them, and nowhere else.
"""

import difflib
import hashlib
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from nmt.errors import ConfigError
from nmt.types import PathLike

Built = TypeVar("Built", bound=Callable[..., Any])


class Registry:
    """The kinds from which one setting chooses by a word, with what is built of each.

    Args:
        place: the setting that holds the word ("model.cell").
        ours: "module:name" of what is built of our own kinds, by their words.

    Attributes:
        built: class or function, or "module:name" of it, by its word.
        watchers: called after a kind was added.
    """

    def __init__(self, place: str, **ours: str) -> None:
        self.place, self._ours = place, ours
        self.built: dict[str, Any] = {**ours}
        self.watchers: list[Callable[[], None]] = []

    def add(self, word: str, built: Any) -> None:
        """Add a kind of a user's own.

        Raises:
            ConfigError: the word is one of ours.
        """
        if word in self._ours:
            raise ConfigError(f"{self.place} {word} is there already: give a kind of your own another name")
        self.built[word] = built
        for watcher in self.watchers:
            watcher()

    def is_ours(self, word: str) -> bool:
        """Return whether a kind is one of ours."""
        return word in self._ours

    def register(self, word: str) -> Callable[[Built], Built]:
        """Add the decorated class or function as the kind of a word; see `add`."""

        def register(built: Built) -> Built:
            self.add(word, built)
            return built

        return register

    def remedy(self, word: str, among: Iterable[str] | None = None) -> str:
        """Return what to do about a word that is no kind, or none of some."""
        near = nearest(word, self.built if among is None else among)
        own = "a kind of your own needs --import FILE, with the Python file that registers it"
        return f"did you mean {near}?" if near else own

    def __getitem__(self, word: str) -> Any:
        """Return what is built of a word, imported by now.

        Raises:
            ConfigError: there is no such kind.
        """
        built = self.built.get(word)
        if built is None:
            raise ConfigError(f"{self.place} must be {either([*self.built])}, got {word}: {self.remedy(word)}")
        if not isinstance(built, str):
            return built
        module, _, name = built.partition(":")
        return getattr(import_module(module), name)


def either(choices: Sequence[str]) -> str:
    """Return "a, b or c"."""
    return choices[0] if len(choices) == 1 else ", ".join(choices[:-1]) + " or " + choices[-1]


def describe_seconds(seconds: float) -> str:
    """Return a span of time as h:mm:ss, or m:ss below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the word most like another one, None if none is."""
    known = {candidate.lower(): candidate for candidate in words}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), list(known), n=1, cutoff=0.6)
    return known[found[0]] if found else None


TOKENIZERS = Registry(
    "data.tokenizer.type",
    sentencepiece="nmt.text.sentencepiece_tokenizer:SentencePieceTokenizer",
    whitespace="nmt.text.tokenizer:WhitespaceTokenizer",
    character="nmt.text.tokenizer:CharacterTokenizer",
)
"""How lines of text become tokens: kinds of `nmt.text.Tokenizer`, whose `learn` takes the settings that it names."""

MODELS = Registry("model.type", transformer="nmt.models.transformer:Transformer", rnn="nmt.models.rnn:RNN")
"""The architectures: kinds of `nmt.models.contract.Seq2Seq`."""

CELLS = Registry("model.cell", gru="nmt.layers.recurrent:GRUCell", lstm="nmt.layers.recurrent:LSTMCell")
"""The recurrent cells: kinds of `nmt.layers.recurrent.RecurrentCell`."""

MIXERS = Registry("model.decoder_mixer", attention="nmt.layers.transformer:self_attention")
"""Makers of what mixes positions in a block of the Transformer's decoder, see `nmt.layers.transformer.Mixer`."""

OPTIMIZERS = Registry(
    "training.optimizer.type",
    adam="nmt.training.optimization:build_adam",
    adamw="nmt.training.optimization:build_adamw",
    sgd="nmt.training.optimization:build_sgd",
)
"""How gradients become updates: kinds of Keras optimizers, whose gradients are clipped before they get them."""

SCHEDULES = Registry(
    "training.schedule.type",
    inverse_sqrt="nmt.training.optimization:InverseSquareRootSchedule",
    constant="nmt.training.optimization:ConstantSchedule",
    noam="nmt.training.optimization:NoamSchedule",
    plateau="nmt.training.optimization:PlateauSchedule",
)
"""How the learning rate changes from update to update: kinds of `nmt.training.optimization.Schedule`."""

LOSSES = Registry(
    "training.loss", blockwise="nmt.training.update:loss_sums", plain="nmt.training.update:plain_loss_sums"
)
"""What an update makes smaller, see `nmt.training.update.Loss`."""

READERS = Registry(
    "the format of a corpus",
    tsv="nmt.corpora.formats:read_tsv",
    jsonl="nmt.corpora.formats:read_jsonl",
    tmx="nmt.corpora.tmx:read_tmx",
    zip="nmt.corpora.formats:read_zip",
)
"""What reads files that hold both sides of a corpus, by the endings of their names; see `nmt.data.corpus.Reader`."""

VARIATIONS = Registry(
    "data.variation",
    merge="nmt.variation.changes:merge",
    word_dropout="nmt.variation.changes:word_dropout",
    word_swap="nmt.variation.changes:word_swap",
    typos="nmt.variation.changes:typos",
    white_space="nmt.variation.changes:white_space",
    final_punctuation="nmt.variation.changes:final_punctuation",
    title_case="nmt.variation.changes:title_case",
    upper_case="nmt.variation.changes:upper_case",
    noise="nmt.variation.changes:noise",
    tags="nmt.variation.hints:tags",
    placeholders="nmt.variation.hints:placeholders",
)
"""How pairs of lines are varied, in the order in which it is done; see `nmt.variation.changes.Change`."""

register_cell, register_mixer, register_loss = CELLS.register, MIXERS.register, LOSSES.register
register_variation = VARIATIONS.register


class Imported(NamedTuple):
    """A file that was loaded.

    path: where it lies, absolute.
    module: the name under which it is a module here.
    sha256: of its content.
    """

    path: Path
    module: str
    sha256: str


_imported: dict[str, Imported] = {}


def import_file(path: PathLike) -> None:
    """Load a Python file; once, unless its content has changed. Its folder is not searched for other modules.

    Raises:
        ConfigError: the file cannot be read or fails, or another file of the same name was loaded.
    """
    path = Path(path).resolve()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--import {path}: cannot be read: {error.strerror}") from error
    found = Imported(path, f"nmt_imports_{path.stem}", hashlib.sha256(content).hexdigest())
    before = _imported.get(path.name)
    if before == found:
        return
    if before is not None and before.path != path:
        raise ConfigError(f"--import {path}: {before.path} has the same name: rename one of the two")
    module = sys.modules[found.module] = ModuleType(found.module)  # where classes look for the module they belong to
    module.__file__ = str(path)
    try:
        exec(compile(content, path, "exec"), vars(module))  # what was hashed is what runs: no cache of an older file
    except ConfigError as error:
        raise ConfigError(f"--import {path}: {error}") from error
    except Exception as error:
        raise ConfigError(f"--import {path} fails: {type(error).__name__}: {error} (--debug shows where)") from error
    _imported[path.name] = found


def imported_files() -> list[Imported]:
    """Return the files that were loaded, in their order."""
    return list(_imported.values())


def imported_hashes() -> dict[str, str]:
    """Return the SHA-256 of each file that was loaded, by its name; model directories record it."""
    return {name: found.sha256 for name, found in _imported.items()}
