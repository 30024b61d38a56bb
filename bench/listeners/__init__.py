"""Callers that play a server's audio under load: planned requests, simulated playback, probes, a summary."""
