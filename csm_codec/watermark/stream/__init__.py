"""One stream on its way through the watermark: frames, level, look-ahead, coverage. No torch."""
