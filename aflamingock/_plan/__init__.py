"""What to do with each change: pure functions of the pipeline and the history."""
