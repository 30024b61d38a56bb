"""A text that is said sentence by sentence as one clip."""
