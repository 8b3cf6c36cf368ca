"""The target systems, a module for each kind."""
