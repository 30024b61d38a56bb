"""What is measured: as many barriers as a frame of csm-1b's depth decoder has, and rounds that read as much as one of
its passes, in as many parts as a pass has barriers. Importing needs triton.
"""

from bench.shapes import CSM_1B
from csm_engine.execution.ops.depth.depth_launches import phases_of

ROUNDS = CSM_1B.num_codebooks - 1  # passes
_PHASES = list(phases_of(CSM_1B.depth_decoder.num_layers, CSM_1B.num_codebooks))
BARRIERS, PARTS = len(_PHASES), sum(codebook == ROUNDS for _, codebook, _, _ in _PHASES)
BLOCK, BLOCKS = 4096, 5  # int32 of one load, and loads of a program in a part: 132 programs read 227 MB a round
