"""The calls that a server receives, before its handlers see them."""
