"""What a codec stage's host costs for each stream, whatever its GPU."""
