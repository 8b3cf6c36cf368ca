"""The wallets of a game: a job on DynamoDB that applies its changes, then works."""
