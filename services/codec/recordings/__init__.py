"""Whole recordings: encoding them, and looking for the watermark in them, beside the decode steps."""
