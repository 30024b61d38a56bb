"""Keys of the watermark, and the messages that they stand for. No torch."""
