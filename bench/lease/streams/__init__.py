"""Streams of an engine in this process: requests, arrivals of frames, playback."""
