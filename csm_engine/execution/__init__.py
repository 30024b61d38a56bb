"""The fast frame step: packed weights, few operations, static state, one CUDA graph per batch bucket.

`ops/dispatch.py` picks plain torch (`torch_ops.py`) or Triton (`triton_ops.py`) by where the tensors are; both
compute the same. The reference that all of it is compared with is `csm_engine/reference/frame_step.py`.
"""
