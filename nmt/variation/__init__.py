"""Variation: pairs of lines changed by chance while a model trains, so that it can bear what people type."""

from nmt.variation.varied_pairs import Changes, VariedPairs, describe_rates, rates_of, variations_of, vary_pairs

__all__ = ["Changes", "VariedPairs", "describe_rates", "rates_of", "variations_of", "vary_pairs"]
