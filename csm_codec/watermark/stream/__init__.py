"""One stream's state in the watermark: frames, level, look-ahead, coverage. No torch."""
