"""English text to what is spoken of it: words, then phones. No torch, no RPC; frontend.py is where it begins."""
