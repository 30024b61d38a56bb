"""Streams of an engine in this process: who asks, what arrives when, what is heard."""
