"""A catalogue of products: FastAPI, MongoDB, and changes that run before the first request."""
