"""The report as people read it: the page, Markdown, pictures."""
