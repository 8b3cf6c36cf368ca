"""One run, from the first look at the log to the report."""
