"""Neural machine translation on Keras 3 and TensorFlow.

Example:
    import nmt

    translator = nmt.Translator.load("runs/travel")
    translator.translate(["¿Dónde está la estación?"])

Importing this package loads neither TensorFlow nor Keras: a public name is imported when it is first used.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nmt.errors import NOT_ON_WINDOWS
from nmt.version import __version__

if TYPE_CHECKING:
    from nmt.architectures import RNNArchitecture, TransformerArchitecture
    from nmt.checkpoint.manager import CheckpointManager
    from nmt.config import Config, SearchSettings
    from nmt.config import load as load_config
    from nmt.config.data import register_tokenizer
    from nmt.config.section import Section, setting
    from nmt.config.settings import register_cell, register_model
    from nmt.config.training import register_optimizer, register_schedule
    from nmt.data import Batch, BatchStream, Cursor, TokenStore, open_store
    from nmt.errors import CheckpointError, ConfigError, DataError, ExportError, NMTError, TrainingError
    from nmt.inference.ctranslate2_engine import CTranslate2Translator
    from nmt.inference.evaluation import Evaluation, Score, evaluate_files, evaluate_lines
    from nmt.inference.translation import Tally, Translation
    from nmt.inference.translator import Translator
    from nmt.layers import TiedEmbeddingsTransposed
    from nmt.models.contract import Seq2Seq, Vocabularies, build_model
    from nmt.models.rnn import RNN
    from nmt.models.transformer import Transformer
    from nmt.recipes.train import train
    from nmt.search import SearchResult, beam_search, greedy_search
    from nmt.text import TextPair, Tokenizer, Vocabulary
    from nmt.training.trainer import Trainer
    from nmt.tying import TieGroup, tie_groups, verify_ties

__all__ = [
    "RNN",
    "Batch",
    "BatchStream",
    "CTranslate2Translator",
    "CheckpointError",
    "CheckpointManager",
    "Config",
    "ConfigError",
    "Cursor",
    "DataError",
    "Evaluation",
    "ExportError",
    "NMTError",
    "RNNArchitecture",
    "Score",
    "SearchResult",
    "SearchSettings",
    "Section",
    "Seq2Seq",
    "Tally",
    "TextPair",
    "TieGroup",
    "TiedEmbeddingsTransposed",
    "TokenStore",
    "Tokenizer",
    "Trainer",
    "TrainingError",
    "Transformer",
    "TransformerArchitecture",
    "Translation",
    "Translator",
    "Vocabularies",
    "Vocabulary",
    "__version__",
    "beam_search",
    "build_model",
    "evaluate_files",
    "evaluate_lines",
    "greedy_search",
    "load_config",
    "open_store",
    "register_cell",
    "register_model",
    "register_optimizer",
    "register_schedule",
    "register_tokenizer",
    "setting",
    "tie_groups",
    "train",
    "verify_ties",
]

_NAMES = {
    "nmt.architectures": ("RNNArchitecture", "TransformerArchitecture"),
    "nmt.checkpoint.manager": ("CheckpointManager",),
    "nmt.config": ("Config", "SearchSettings"),
    "nmt.config.data": ("register_tokenizer",),
    "nmt.config.section": ("Section", "setting"),
    "nmt.config.settings": ("register_cell", "register_model"),
    "nmt.config.training": ("register_optimizer", "register_schedule"),
    "nmt.data": ("Batch", "BatchStream", "Cursor", "TokenStore", "open_store"),
    "nmt.errors": ("CheckpointError", "ConfigError", "DataError", "ExportError", "NMTError", "TrainingError"),
    "nmt.inference.ctranslate2_engine": ("CTranslate2Translator",),
    "nmt.inference.evaluation": ("Evaluation", "Score", "evaluate_files", "evaluate_lines"),
    "nmt.inference.translation": ("Tally", "Translation"),
    "nmt.inference.translator": ("Translator",),
    "nmt.layers": ("TiedEmbeddingsTransposed",),
    "nmt.models.contract": ("Seq2Seq", "Vocabularies", "build_model"),
    "nmt.models.rnn": ("RNN",),
    "nmt.models.transformer": ("Transformer",),
    "nmt.recipes.train": ("train",),
    "nmt.search": ("SearchResult", "beam_search", "greedy_search"),
    "nmt.text": ("TextPair", "Tokenizer", "Vocabulary"),
    "nmt.training.trainer": ("Trainer",),
    "nmt.tying": ("TieGroup", "tie_groups", "verify_ties"),
}
"""The public names of each module."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names} | {"load_config": "nmt.config:load"}
"""Where each public name lives, as "module" or "module:name there"."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, and keep it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nmt' has no attribute {name!r}")
    if sys.platform == "win32":
        raise ImportError(NOT_ON_WINDOWS)
    from nmt.backend.session import starting_quietly

    module, _, name_there = _HOMES[name].partition(":")
    with starting_quietly():
        value = getattr(import_module(module), name_there or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
