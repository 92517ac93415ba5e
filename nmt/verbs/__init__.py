"""Verbs: one command a function, one module a family. Each imports what it needs when it runs."""
