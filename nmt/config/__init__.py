"""Settings of a run: typed, frozen, with one place for each default; loaded, merged, checked, explained and written.

Example:
    config = load(["base.yaml", "large.yaml"], overrides=["training.max_updates=500"])
    config.model.hidden_size
    write(config, "runs/travel/config.yaml")

All problems of a config come in one `nmt.errors.ConfigError`. Configs stop at the builders: models, search and trainer
take plain keyword arguments.
"""

from nmt.config.loader import changed_settings, load, to_yaml, with_kept_settings, write
from nmt.settings.config import Config, SearchSettings, advice

__all__ = [
    "Config",
    "SearchSettings",
    "advice",
    "changed_settings",
    "load",
    "to_yaml",
    "with_kept_settings",
    "write",
]
