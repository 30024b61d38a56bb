"""Voices: of the model, of the operator's folder, and kept for callers in a database."""
