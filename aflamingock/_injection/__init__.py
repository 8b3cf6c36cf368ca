"""Give a coroutine what its annotations ask for, for as long as the lease allows."""
