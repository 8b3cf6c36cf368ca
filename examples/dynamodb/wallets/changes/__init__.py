"""The changes of the wallets; the file names give the order."""
