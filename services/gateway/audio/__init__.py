"""Formats of public audio: streaming encoders out, decoders of recordings in. It knows no request and no stage.

FFmpeg's libraries do the work through PyAV, without numpy. Inside, audio is mono 16-bit little-endian bytes.
"""
