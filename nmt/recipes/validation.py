"""How a run is judged while it is trained: by its loss, and by its translations of the validation corpus."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from itertools import chain

from nmt.config import Config
from nmt.config.section import AUTO
from nmt.data import evaluation_batches, read_pairs
from nmt.data.corpus import read_lines
from nmt.inference.evaluation import bleu, settled_tokenization
from nmt.inference.tokenization import doubt_about, earlier_tokenization
from nmt.inference.translation import Tally
from nmt.inference.translator import Translator
from nmt.models.contract import Seq2Seq
from nmt.recipes.text_measure import unknown_share
from nmt.text import TextPair
from nmt.text.marks import joined_side
from nmt.training.events import Sample, Validation
from nmt.training.validation import TokenScorer

logger = logging.getLogger(__name__)

VALIDATION_BATCH_TOKENS = 1024
"""Small, since validation holds the logits of a whole batch where training does not."""

MAX_LOGGED_LOSS = 700.0
"""exp of a larger loss is beyond a float."""


def settle_tokenization(config: Config) -> Config:
    """Return settings that name the tokenisation of BLEU, and say what is doubtful about it.

    Raises:
        ConfigError: what it needs is missing.
        DataError: the corpus cannot be read.
    """
    lines = list(chain.from_iterable(map(read_lines, config.data.validation.target_paths)))
    references = joined_side(lines, config.data.segmentation)
    tokenization = validation_tokenization(config, references)
    if doubt := doubt_about(tokenization, references):
        logger.warning("data.validation: %s", doubt)
    if config.training.validation_tokenization is None:
        return config
    return config.with_training(validation_tokenization=tokenization)


def validation_tokenization(config: Config, references: Sequence[str]) -> str:
    """Return how BLEU cuts the text of a run, whose references these are.

    Raises:
        ConfigError: what it needs is missing.
    """
    name, language = config.training.validation_tokenization, config.data.target_language
    if name is None:
        return earlier_tokenization(language)
    return settled_tokenization(None if name == AUTO else name, [references], language=language)


def validator(config: Config, model: Seq2Seq, text: TextPair, *, at_once: int = 1) -> Callable[[], Validation]:
    """Return a function that judges the model on the validation corpus, every line of it.

    Args:
        config: the run.
        model: what is judged.
        text: tokenizers of both sides.
        at_once: batches whose loss is computed side by side.

    Raises:
        DataError: if the corpus cannot be read.
    """
    corpus, training = config.data.validation, config.training
    pairs = list(read_pairs(corpus.source_paths, corpus.target_paths))
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    segmentation = config.data.segmentation
    references = joined_side(targets, segmentation)
    batches = [entry.batch for entry in evaluation_batches(pairs, text=text, batch_tokens=VALIDATION_BATCH_TOKENS)]
    tokenization = validation_tokenization(config, references)
    unknown = unknown_share(row for batch in batches for row in batch.target_output_ids)
    scorer, translator = TokenScorer(model), Translator(model, text, config.search, segmentation=segmentation)

    def validate() -> Validation:
        scores = scorer.score(batches, at_once=at_once)
        tally = Tally()  # in place of warnings: a model that has just begun to learn repeats itself
        hypotheses = translator.translate(sources, beam_size=training.validation_beam_size, tally=tally)
        shown = lines_to_show(len(pairs), training.sample_translations)
        return Validation(
            loss=scores.loss,
            perplexity=math.exp(min(scores.loss, MAX_LOGGED_LOSS)),
            accuracy=scores.accuracy,
            bleu=bleu(hypotheses, references, tokenization=tokenization).score,
            cut_lines=tally.cut,
            unknown_share=unknown,
            samples=tuple(Sample(sources[i], references[i], hypotheses[i]) for i in shown),
        )

    return validate


def lines_to_show(count: int, wanted: int) -> list[int]:
    """Return which of `count` lines to show, spread evenly, the same at every validation."""
    wanted = min(wanted, count)
    return [index * count // wanted for index in range(wanted)]
