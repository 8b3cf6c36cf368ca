"""Find changes, read them, and tell whether they are the same as before."""
