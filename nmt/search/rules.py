"""Rules: what a search asks of its tokens besides what the model says of them, a class a rule."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from nmt.types import State, Tensor


class View(NamedTuple):
    """What a rule sees of a step, for the K live hypotheses of each of the b sentences.

    logits: (b, K, V) float32, as the step gave them.
    log_normalizers: (b, K, 1) float32: what was subtracted from the logits to make them log probabilities.
    length: () int32, of a hypothesis with the token to come, EOS counted.
    min_length, max_length: (b,) int32, of each sentence.
    state: the rule's own, leaves (b, K, ...).
    token_ids: (b, K, length - 1) int32, the tokens so far, without BOS; None unless the rule `needs_tokens`.
    """

    logits: Tensor
    log_normalizers: Tensor
    length: Tensor
    min_length: Tensor
    max_length: Tensor
    state: State
    token_ids: Tensor | None


class Rule(ABC):
    """Lowers the scores of tokens, or takes tokens away by −inf.

    Rules are asked one after the other, after normalisation: what one takes away keeps its share of probability, as
    banned tokens do. PAD, BOS and banned tokens, the least length and the greatest hold besides and come last; a rule
    that takes EOS away at the greatest length leaves a hypothesis nothing. To sample is to draw a token and to take all
    others away.

    A rule is part of what a search is compiled for: one object, one meaning.
    """

    needs_tokens: ClassVar[bool] = False
    """Whether it looks at the tokens so far; those of all steps, so it may cost more the longer a hypothesis is."""

    only_lowers: ClassVar[bool] = True
    """False where it may also raise a score. Then no bound holds: a sentence is searched until its greatest length."""

    def initial_state(self, batch_size: Tensor, beam_size: int) -> State:
        """Return what the rule knows of empty hypotheses, a nest of tensors (B, K, ...); nothing unless overridden."""
        return ()

    @abstractmethod
    def lower(self, scores: Tensor, view: View) -> Tensor:
        """Change the log probability of each next token, as the rules before left it: (b, K, V) to (b, K, V)."""

    def follow(self, state: State, token_ids: Tensor) -> State:
        """Take note of the tokens (b, K) that hypotheses were extended by; the state is that of each one's parent."""
        return state
