"""The kernel of the depth decoder's frame: what its compiled code does for a tile, and a model of its time."""
