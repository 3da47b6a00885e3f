"""Runs -> pandas tables -> Markdown, CSV, HTML."""
