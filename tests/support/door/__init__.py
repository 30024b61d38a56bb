"""The HTTP door in tests."""
