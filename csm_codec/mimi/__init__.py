"""Mimi: its loader, decoder, encoder, and the transformers library's layout of its weights."""
