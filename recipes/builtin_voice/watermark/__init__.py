"""A small SilentCipher at 24 kHz: how it is trained and what it reaches. See README.md beside this file."""
