"""The changes of the order service: one stage, in the order of the file names."""
