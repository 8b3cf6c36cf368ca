"""Deliberate faults, each of which at least one test must find."""
