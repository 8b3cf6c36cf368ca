"""The profiles of users: a program on Couchbase that applies its changes, then works."""
