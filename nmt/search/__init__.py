"""From step logits to hypotheses: beam search and greedy search through a step function, without a model."""

from nmt.search.loop import SearchResult, beam_search, greedy_search
from nmt.search.step import Rule, View

__all__ = ["Rule", "SearchResult", "View", "beam_search", "greedy_search"]
