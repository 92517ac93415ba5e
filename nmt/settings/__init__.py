"""Settings: the typed sections of a YAML file, each with its defaults. `nmt.config` reads and writes them."""
