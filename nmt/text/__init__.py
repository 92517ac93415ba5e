"""Text: vocabularies, tokenizers, and the pair of them that a model needs. No Keras here."""

from nmt.text.pair import TextPair
from nmt.text.sentencepiece_tokenizer import SentencePieceTokenizer
from nmt.text.tokenizer import CharacterTokenizer, Tokenizer, WhitespaceTokenizer
from nmt.text.vocabulary import BOS_ID, EOS_ID, SPECIAL_TOKENS, UNK_ID, Vocabulary
from nmt.types import PAD_ID

__all__ = [
    "BOS_ID",
    "EOS_ID",
    "PAD_ID",
    "SPECIAL_TOKENS",
    "UNK_ID",
    "CharacterTokenizer",
    "SentencePieceTokenizer",
    "TextPair",
    "Tokenizer",
    "Vocabulary",
    "WhitespaceTokenizer",
]
