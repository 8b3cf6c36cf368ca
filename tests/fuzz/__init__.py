"""Random input: whatever is given, it is stored, or refused with one clear error."""
