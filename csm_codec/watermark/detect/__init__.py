"""Finds the watermark in recordings."""
