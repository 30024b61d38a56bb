"""What a barrier between all programs of a launch costs, and whether weights stream on meanwhile: part of a lease."""
