"""Curves of a run while it goes, by a process beside it: VisualDL, TensorBoard, W&B."""
