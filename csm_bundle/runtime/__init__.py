"""How parts of a bundle are run: the thread that owns one, and linear layers on a CPU."""
