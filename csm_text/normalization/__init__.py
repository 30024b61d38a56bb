"""Normalization: text to words, with rules for figures, dates, signs, abbreviations, capitals and other scripts."""
