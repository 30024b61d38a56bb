"""Pronunciation: words to phones, by dictionary, by a word's use, and by a letter-to-sound model."""
