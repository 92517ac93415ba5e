"""Settings of a run: typed, frozen, with one place for each default; loaded, merged, checked, explained and written.

Example:
    config = load(["base.yaml", "large.yaml"], overrides=["training.max_updates=500"])
    config.model.hidden_size
    write(config, "runs/travel/config.yaml")

All problems of a config come in one `nmt.errors.ConfigError`. Configs stop at the builders: models, search and trainer
take plain keyword arguments.
"""

from nmt.config.data import (
    CharacterSettings,
    CorpusSettings,
    DataSettings,
    SentencePieceSettings,
    TokenizerSettings,
    WhitespaceSettings,
)
from nmt.config.loader import changed_settings, from_settings, load, to_yaml, with_kept_settings, write
from nmt.config.model import ModelSettings, RNNSettings, TransformerSettings
from nmt.config.reference import Row, explain, explain_text
from nmt.config.search import SearchSettings
from nmt.config.settings import FORMAT_VERSION, Config, advice
from nmt.config.training import (
    AdamSettings,
    AdamWSettings,
    ConstantSettings,
    EarlyStoppingSettings,
    InverseSqrtSettings,
    NoamSettings,
    OptimizerSettings,
    PlateauSettings,
    ScheduleSettings,
    SGDSettings,
    TrainingSettings,
)

__all__ = [
    "FORMAT_VERSION",
    "AdamSettings",
    "AdamWSettings",
    "CharacterSettings",
    "Config",
    "ConstantSettings",
    "CorpusSettings",
    "DataSettings",
    "EarlyStoppingSettings",
    "InverseSqrtSettings",
    "ModelSettings",
    "NoamSettings",
    "OptimizerSettings",
    "PlateauSettings",
    "RNNSettings",
    "Row",
    "SGDSettings",
    "ScheduleSettings",
    "SearchSettings",
    "SentencePieceSettings",
    "TokenizerSettings",
    "TrainingSettings",
    "TransformerSettings",
    "WhitespaceSettings",
    "advice",
    "changed_settings",
    "explain",
    "explain_text",
    "from_settings",
    "load",
    "to_yaml",
    "with_kept_settings",
    "write",
]
