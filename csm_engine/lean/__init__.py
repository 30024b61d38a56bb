"""The fast frame step: packed weights, few operations, static state, one CUDA graph per batch bucket.

`ops.py` picks plain torch (`ops_torch.py`) or Triton (`ops_triton.py`) by where the tensors are; both compute the same.
The reference that all of it is compared with is `csm_engine/frame_step.py`.
"""
