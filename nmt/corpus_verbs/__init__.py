"""The commands that work on corpora, with their options."""
