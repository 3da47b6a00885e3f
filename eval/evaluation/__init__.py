"""One evaluation, top to bottom, of a model or of a run on disk."""
