"""Serving: trained models in the form of other engines, checked against the model they came from.

Nothing is imported here: an export needs a package that most installations do not have.
"""
