"""Checks requests and turns them into plans. It calls no stage."""
