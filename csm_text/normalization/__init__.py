"""Text to words: figures, dates, signs, abbreviations, capitals, other scripts."""
