"""The terminal: options, streams of lines, jobs and progress, which the verbs share."""
