"""The changes of the profiles; the file names give the order."""
