"""Listeners of a server under load: planned requests, playback, probes, and their summary."""
