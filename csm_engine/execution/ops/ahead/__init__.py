"""What a launch asks memory for, so that a later launch of the frame finds it in the L2 cache."""
