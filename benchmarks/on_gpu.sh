#!/bin/sh
# Times fsljax on a GPU against PyTorch, and runs the tests that need one: under six minutes, one table.
#
#   sh benchmarks/on_gpu.sh [PATH]
#
# Most of the time XLA and PyTorch compile, on as many processors as there are: take a machine with 16.
# PATH takes the table as JSON, benchmarks/gpu_results.json by default. PYTHON names an interpreter with JAX
# for GPUs, PyTorch, torchvision and the project's own needs. Let nothing else run meanwhile.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)
export PYTHONPATH="$folder/..:$folder${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" "$folder/gpu_table.py" --output="${1:-$folder/gpu_results.json}"
