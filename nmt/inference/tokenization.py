"""How sacreBLEU cuts text for BLEU. Nothing is imported here: the command line shows the default in its help."""

DEFAULT_TOKENIZATION = "13a"
"""Used where none is asked for and the language has spaces."""

_WITHOUT_SPACES = {"zh": "zh", "ja": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}


def tokenization_for(language: str) -> str:
    """Return the tokenisation that suits a language code: 13a finds no words where there are no spaces."""
    return _WITHOUT_SPACES.get(language.replace("_", "-").split("-")[0].lower(), DEFAULT_TOKENIZATION)
