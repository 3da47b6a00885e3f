"""The pages as a site: `make docs` (Sphinx and MyST). What a forge shows is taken as it is."""

from pygments.lexers.special import TextLexer

project = "harness"
extensions = ["myst_parser"]
root_doc = "README"
PAGES = ["docs/*", "CONTRIBUTING", "CHANGELOG", "SECURITY", "README.zh", "tests/corpus/README"]
include_patterns = ["README.md", *(f"{page}.md" for page in PAGES)]
myst_heading_anchors = 3
html_show_copyright = html_copy_source = False
html_theme_options = {"page_width": "1200px"}


def setup(app):
    """Mermaid stays text (its script would come from elsewhere); the contents are README's."""
    app.add_lexer("mermaid", TextLexer)
    contents = "\n\n```{toctree}\n:hidden:\n:glob:\n\n" + "\n".join(PAGES) + "\n```\n"

    def append(app, name, source):
        if name == root_doc:
            source[0] += contents

    app.connect("source-read", append)
