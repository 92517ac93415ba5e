"""How sacreBLEU cuts text for BLEU. Nothing is imported here: the command line shows the default in its help."""

DEFAULT_TOKENIZATION = "13a"
"""Used where none is asked for; `zh` suits Chinese, `char` languages without spaces."""
