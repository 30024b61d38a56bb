"""Hundreds of callers that are slow or idle, beside a few ordinary ones."""
