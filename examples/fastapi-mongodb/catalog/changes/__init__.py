"""The changes of the catalogue; the file names give the order."""
