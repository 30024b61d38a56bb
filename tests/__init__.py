"""Tests are named claims; the folders mirror the project's."""
