"""THE loop of the engine, its thread, and the steps that are in flight."""
