"""The audit log: what it knows of the past, and how it grows."""
