"""The changes of the shop; the file names give the order."""
