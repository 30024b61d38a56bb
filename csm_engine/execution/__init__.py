"""The fast frame step: packed weights, few kernels, static state, one CUDA graph per batch bucket.

`ops/dispatch.py` picks plain torch (`torch_ops.py`) or Triton (`triton_ops.py`) by the tensors' device; both compute
the same. Tests compare all of it with the reference, `csm_engine/reference/frame_step.py`.
"""
