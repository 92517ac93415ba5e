"""Recipes: one function per verb, the place where all rooms meet. Each imports what it needs when it is called."""
