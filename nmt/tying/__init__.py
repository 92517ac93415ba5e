"""Weight tying of any Keras model: role paths, the variables that play several roles, and the proof that they do."""

from nmt.tying.groups import TieGroup, named_layers, named_variables, tie_groups, variable_roles, verify_ties

__all__ = ["TieGroup", "named_layers", "named_variables", "tie_groups", "variable_roles", "verify_ties"]
