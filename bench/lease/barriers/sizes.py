"""What is measured: barriers of a launch, and rounds that read as much as a pass of the depth decoder, in parts."""

BARRIERS, ROUNDS, PARTS = 558, 31, 18
BLOCK, BLOCKS = 8192, 3  # int32 of one load, and loads of a program in a part: 132 programs read 233 MB a round
