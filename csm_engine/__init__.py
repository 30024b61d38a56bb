"""The inference library of CSM: backbone and depth decoder. It uses neither gRPC nor asyncio, and knows no audio."""
