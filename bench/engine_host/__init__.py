"""What an engine stage's host costs for each stream, whatever its GPU."""
