"""The command line: arguments in, exit code out; one module a verb. Each verb imports what it needs when it runs."""
