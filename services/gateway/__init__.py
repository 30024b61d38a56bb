"""The gateway: the public API in front of engine and codec. It holds no model and imports neither torch nor numpy."""
