"""Training data: coco256_features on disk (plain or packed), and which sample is which.

Global sample number g = step * global_batch_size + position decides everything
about a training sample: which image, which caption, whether the condition is
dropped, the latent's draw, the timestep and the noise. Nothing depends on
worker count, micro-batch, world size, how often the run was resumed, or whether
the data is read from its plain or its packed form.
"""

from harness.data.features import Split, empty_context, open_split, run_vis
from harness.data.identity import describe, sampled_digest
from harness.data.prefetch import prefetch
from harness.data.samples import Batch, Sampling, Source, open_source, sample_moments

__all__ = [
    "Batch", "Sampling", "Source", "Split", "describe", "empty_context", "open_source",
    "open_split", "prefetch", "run_vis", "sample_moments", "sampled_digest",
]
