"""Tasks: what a trained model is used for, one function per verb. Each imports what it needs when it is called."""
