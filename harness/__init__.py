"""The command line, and what a run is: configs, seeds, files, checkpoints, training."""
