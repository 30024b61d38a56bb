"""Formats that are a sequence of packets without a container: MP3, AAC in ADTS, FLAC. Made and read through FFmpeg."""
