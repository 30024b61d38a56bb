"""Embeds the watermark into streams of audio, many at once."""
