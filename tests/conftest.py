"""Settings shared by all tests."""

import os

import torch

# The tests' networks are tiny: one thread is faster than two sharing them. `make test-numeric` asks for two, because
# sums are added up in another order then.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
