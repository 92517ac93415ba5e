"""What may be wrong with a pair of lines: what is counted, the table of checks, and repeated pairs."""
