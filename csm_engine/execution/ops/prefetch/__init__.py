"""What a launch prefetches, so that a later launch of the frame finds it in the L2 cache."""
