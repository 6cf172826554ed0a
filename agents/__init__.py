"""Training, evaluation and export of learned policies."""
