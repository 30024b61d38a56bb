"""Thin processes round the library: gateway, engine, codec, and all three in one."""
