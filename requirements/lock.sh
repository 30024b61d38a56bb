#!/usr/bin/env bash
# Makes the lock again: dev.txt holds every package of every stage, each stage's file is a subset of it.
# Needs `pip install uv` and a package index. torch and its CUDA libraries are left out: torch is installed first and
# normally (CONTRIBUTING.md, "Dependencies"), so that a machine gets the build that fits it; everything here goes in with --no-deps.
set -euo pipefail
cd "$(dirname "$0")"
header='# Made by requirements/lock.sh from the .in file of the same name. Install with: pip install --no-deps -r'
torch_family=$(printf -- '--no-emit-package %s ' torch triton cuda-bindings cuda-pathfinder cuda-toolkit \
  nvidia-{cublas,cuda-cupti,cuda-nvrtc,cuda-runtime,cudnn-cu13,cufft,cufile,curand,cusolver,cusparse,cusparselt-cu13,nccl-cu13,nvjitlink,nvshmem-cu13,nvtx})

compile() {  # compile NAME [extra uv arguments]: NAME.in -> NAME.txt
  local name=$1; shift
  { echo "$header requirements/$name.txt"
    # shellcheck disable=SC2086
    uv pip compile --quiet --no-header --no-annotate --python-version 3.11 --override overrides.txt $torch_family "$@" "$name.in"
  } > "$name.new"
  mv "$name.new" "$name.txt"
}

torch_family_of_dev=${torch_family/--no-emit-package triton /}  # tests run the kernels in its interpreter
torch_family=$torch_family_of_dev compile dev "$@"
sed -i.before 's/^triton==.*/& ; sys_platform == "linux"/' dev.txt && rm dev.txt.before  # elsewhere there is none
for stage in client gateway http engine codec all_in_one; do compile "$stage" --constraint dev.txt --override unused.txt; done
