"""The audit stores, a module for each kind of database."""
