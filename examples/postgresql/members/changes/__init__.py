"""The changes of the club; the file names give the order."""
