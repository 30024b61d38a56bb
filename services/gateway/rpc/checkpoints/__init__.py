"""Checkpoints: sealed states that a caller keeps of its stream, and with which another gateway goes on."""
