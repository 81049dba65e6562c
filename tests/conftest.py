"""Settings shared by all tests."""

import torch

# The tests' networks are tiny: one thread is faster than two sharing them, and results repeat exactly.
torch.set_num_threads(1)
