"""A small shop: FastAPI, SQLite, and changes that run before the first request."""
