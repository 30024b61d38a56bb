"""Conversations with several engines: which engine gets a turn, what it reuses, and what a lost or new engine moves."""
