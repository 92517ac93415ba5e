"""The command line: arguments in, exit code out. `main` gathers the verbs."""
