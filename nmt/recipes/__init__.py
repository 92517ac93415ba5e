"""Recipes: how models are made and changed, one function per verb. Each imports what it needs when it is called."""
