"""A small VAE of four latent channels, as Stable Diffusion's has, for models that have them too.

An earlier one of the digits'; the digits' own has one channel.
"""

import atexit
import shutil
import tempfile
from pathlib import Path

from harness.digits import dataset

VAE = Path(__file__).parent / "vae"


def pipeline_folder() -> Path:
    """vae/, text_encoder/ and tokenizer/ side by side, in a folder that goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="harness-pipeline-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(VAE, folder / "vae")
    for name in ("text_encoder", "tokenizer"):
        shutil.copytree(dataset.ASSETS / name, folder / name)
    return folder
