"""Servers and ways to them: names, relays."""
