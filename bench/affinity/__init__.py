"""Conversations before several engines: who gets a turn, what it reuses, what a lost or new engine moves."""
