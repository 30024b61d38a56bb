"""Tiny parts of a bundle: seeded random weights in the real file formats."""
