"""Settings of a run: typed, frozen, with one place for each default; loaded, merged, checked, explained and written.

Example:
    config = load(["base.yaml", "large.yaml"], overrides=["training.max_updates=500"])
    config.model.hidden_size
    write(config, "runs/travel/config.yaml")

All problems of a config come in one `nmt.errors.ConfigError`. Configs stop at the builders: models, search and trainer
take plain keyword arguments.
"""

from nmt.config.data import CorpusSettings, DataSettings, SentencePieceSettings
from nmt.config.loader import changed_settings, from_settings, load, to_yaml, with_kept_settings, write
from nmt.config.reference import explain, explain_text
from nmt.config.settings import FORMAT_VERSION, Config, RNNSettings, SearchSettings, advice
from nmt.config.training import PlateauSettings

__all__ = [
    "FORMAT_VERSION",
    "Config",
    "CorpusSettings",
    "DataSettings",
    "PlateauSettings",
    "RNNSettings",
    "SearchSettings",
    "SentencePieceSettings",
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
