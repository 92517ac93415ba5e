"""Which words of a parallel corpus translate each other: statistical models of alignment, in NumPy alone."""
