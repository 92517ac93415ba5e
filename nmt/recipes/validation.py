"""How a run is judged while it is trained: by its loss, and by its translations of the validation corpus."""

import logging
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from nmt.config import Config
from nmt.control.controls import Control
from nmt.data import batches
from nmt.doctor import doubts
from nmt.inference import translator
from nmt.models import forced
from nmt.models.contract import Seq2Seq
from nmt.scoring import evaluation
from nmt.settings.section import AUTO
from nmt.text import TextPair, marks
from nmt.training import batch_size, events
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


class _Judging:
    """A validation corpus, ready to be translated and scored."""

    def __init__(self, config: Config, text: TextPair, name: str, pairs: Sequence[tuple[str, str]]) -> None:
        tag = config.data.tag_of(name)
        self.sources = [source for source, _ in pairs]
        self.references = marks.joined_side([target for _, target in pairs], config.data.segmentation)
        self.batches = batches.evaluation_batches(
            pairs, text=text, batch_tokens=batch_size.VALIDATION_BATCH_TOKENS, tag=tag
        )
        self.controls = None if tag is None else [Control(tag=tag)] * len(pairs)
        self.tokenization = validation_tokenization(config, self.references)
        sides = [[row for batch in self.batches for row in batch[side]] for side in (0, 2)]  # type: ignore[union-attr]
        what = "the validation corpus" + name[len("validation") :].replace(".", " ")
        self.unknown = doubts.report_unknown(what, *sides)

    def bleu(self, hypotheses: Sequence[str]) -> float:
        """Return the BLEU of translations."""
        return evaluation.bleu(hypotheses, self.references, tokenization=self.tokenization).score


class Validator:
    """Judges the model, with the weights that it has when it is called, on every line of the validation corpora.

    Args:
        config: the run.
        model: what is judged.
        text: tokenizers of both sides.
        pairs: of the validation corpus that decides.
        name: of that corpus in the settings.
        others: pairs of the other ones by their names there.
        at_once: batches whose loss is computed side by side.
    """

    def __init__(
        self,
        config: Config,
        model: Seq2Seq,
        text: TextPair,
        pairs: Sequence[tuple[str, str]],
        *,
        name: str = "validation",
        others: Mapping[str, Sequence[tuple[str, str]]] = MappingProxyType({}),
        at_once: int = 1,
    ) -> None:
        self._decides = _Judging(config, text, name, pairs)
        self._others = {key.partition(".")[2]: _Judging(config, text, key, each) for key, each in others.items()}
        self._name, self._at_once = name.partition(".")[2], at_once
        self._scorer = forced.TokenScorer(model)
        # A shortlist is made of a finished model's tokens, and groups give up the best for variety.
        search = config.search.model_copy(update={"shortlist": False, "diverse_groups": 1})
        self._translator = translator.Translator(model, text, search, segmentation=config.data.segmentation)
        self._training = config.training

    def __call__(self) -> events.Validation:
        """Return loss and BLEU."""
        decides = self._decides
        scores = self._scorer.score(decides.batches, at_once=self._at_once)
        tally = translation.Tally()  # in place of warnings: a model that has just begun to learn repeats itself
        hypotheses = self._translated(decides, tally)
        rows = list(zip(decides.sources, decides.references, hypotheses, strict=True))
        shown = min(len(rows), self._training.sample_translations)  # spread evenly, the same every time
        return events.Validation(
            loss=scores.loss,
            perplexity=math.exp(min(scores.loss, 700.0)),  # of a larger loss it is beyond a float
            accuracy=scores.accuracy,
            bleu=decides.bleu(hypotheses),
            cut_lines=tally.cut,
            unknown_share=decides.unknown,
            sets=self._scores_of_sets(scores.loss, decides.bleu(hypotheses)),
            samples=tuple(events.Sample(*rows[i * len(rows) // shown]) for i in range(shown)),
        )

    def measure_loss(self) -> float:
        """Return the loss alone, which is the quick part."""
        return self._scorer.score(self._decides.batches, at_once=self._at_once).loss

    def _translated(self, corpus: _Judging, tally: translation.Tally) -> list[str]:
        beam_size = self._training.validation_beam_size
        return self._translator.translate(corpus.sources, beam_size=beam_size, tally=tally, controls=corpus.controls)

    def _scores_of_sets(self, loss: float, bleu: float) -> dict[str, events.SetScores]:
        """Return loss and BLEU of each set by its name, that which decides first; empty if it has no name."""
        sets = {self._name: events.SetScores(loss, bleu)} if self._name else {}
        for name, corpus in self._others.items():
            found = self._scorer.score(corpus.batches, at_once=self._at_once).loss
            sets[name] = events.SetScores(found, corpus.bleu(self._translated(corpus, translation.Tally())))
        return sets
