"""From step logits to hypotheses: beam search and greedy search through a step function, without a model."""

from nmt.search.beam import beam_search
from nmt.search.greedy import greedy_search
from nmt.search.loop import SearchResult
from nmt.search.step import Rule, View

__all__ = ["Rule", "SearchResult", "View", "beam_search", "greedy_search"]
