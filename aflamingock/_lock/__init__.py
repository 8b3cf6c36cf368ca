"""The lock: take, keep, give back and lose the lease of a service."""
