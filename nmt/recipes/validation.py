"""How a run is judged while it is trained: by its loss, and by its translations of the validation corpus."""

import logging
import math
from collections.abc import Sequence

from nmt.config import Config
from nmt.data import batches
from nmt.doctor import doubts
from nmt.inference import translator
from nmt.models.contract import Seq2Seq
from nmt.scoring import evaluation
from nmt.settings.section import AUTO
from nmt.text import TextPair, marks
from nmt.training import batch_size, events, update
from nmt.translation import line_translator as translation

logger = logging.getLogger(__name__)


def settle_tokenization(config: Config, pairs: Sequence[tuple[str, str]]) -> Config:
    """Return settings that name the tokenisation of BLEU, and say what is doubtful about it.

    Args:
        config: the run.
        pairs: of its validation corpus.

    Raises:
        ConfigError: what it needs is missing.
    """
    references = marks.joined_side([target for _, target in pairs], config.data.segmentation)
    tokenization = validation_tokenization(config, references)
    if empty := sum(not line.strip() for line in references):
        logger.warning("data.validation: %s of %s lines of the target are empty", f"{empty:,}", f"{len(references):,}")
    if doubt := evaluation.doubt_about(tokenization, references):
        logger.warning("data.validation: %s", doubt)
    elif not evaluation.bleu_can_rise(references, tokenization=tokenization):
        logger.warning("data.validation: %s: the loss decides which checkpoint is the best", evaluation.TOO_SHORT)
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
        return evaluation.earlier_tokenization(language)
    return evaluation.settled_tokenization(None if name == AUTO else name, [references], language=language)


class Validator:
    """Judges the model, with the weights that it has when it is called, on every line of the validation corpus.

    Args:
        config: the run.
        model: what is judged.
        text: tokenizers of both sides.
        pairs: of the validation corpus.
        at_once: batches whose loss is computed side by side.
    """

    def __init__(
        self, config: Config, model: Seq2Seq, text: TextPair, pairs: Sequence[tuple[str, str]], *, at_once: int = 1
    ) -> None:
        segmentation = config.data.segmentation
        self._sources = [source for source, _ in pairs]
        self._references = marks.joined_side([target for _, target in pairs], segmentation)
        self._batches = batches.evaluation_batches(pairs, text=text, batch_tokens=batch_size.VALIDATION_BATCH_TOKENS)
        self._at_once = at_once
        self._tokenization = validation_tokenization(config, self._references)
        sides = [[row for batch in self._batches for row in batch[side]] for side in (0, 2)]
        self._unknown = doubts.report_unknown("the validation corpus", *sides)
        self._scorer = update.TokenScorer(model)
        search = config.search.model_copy(update={"shortlist": False})  # which is made of a finished model's tokens
        self._translator = translator.Translator(model, text, search, segmentation=segmentation)
        self._training = config.training

    def __call__(self) -> events.Validation:
        """Return loss and BLEU."""
        scores = self._scorer.score(self._batches, at_once=self._at_once)
        tally = translation.Tally()  # in place of warnings: a model that has just begun to learn repeats itself
        beam_size = self._training.validation_beam_size
        hypotheses = self._translator.translate(self._sources, beam_size=beam_size, tally=tally)
        rows = list(zip(self._sources, self._references, hypotheses, strict=True))
        shown = min(len(rows), self._training.sample_translations)  # spread evenly, the same every time
        return events.Validation(
            loss=scores.loss,
            perplexity=math.exp(min(scores.loss, 700.0)),  # of a larger loss it is beyond a float
            accuracy=scores.accuracy,
            bleu=evaluation.bleu(hypotheses, self._references, tokenization=self._tokenization).score,
            cut_lines=tally.cut,
            unknown_share=self._unknown,
            samples=tuple(events.Sample(*rows[i * len(rows) // shown]) for i in range(shown)),
        )

    def measure_loss(self) -> float:
        """Return the loss alone, which is the quick part."""
        return self._scorer.score(self._batches, at_once=self._at_once).loss
