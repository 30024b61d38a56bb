"""Keys and values by slot: the cache, its slots, reuse of common prefixes, and the offload to host memory."""
