"""The engine's loop, the thread that drives it, and the frame steps in flight."""
