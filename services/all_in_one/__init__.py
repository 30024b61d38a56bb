"""Engine, codec and gateway in one process, behind their real protos, for a laptop and for tests."""
