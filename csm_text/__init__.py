"""The text front end: English text to words, then to phones. No torch, no RPC. Start at frontend.py."""
