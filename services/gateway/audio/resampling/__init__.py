"""Samples at another rate, piece by piece, and from any place on."""
