"""Sphinx configuration: MyST pages, the furo theme, and two directives that read the source."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "lydite"
author = "the lydite authors"
extensions = ["myst_parser", "published_words"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "lydite"
html_copy_source = False
html_show_copyright = False
exclude_patterns = ["_build", "_extensions"]
suppress_warnings = ["myst.xref_missing"]
