"""Sphinx configuration. Builds without a network: references to other projects stay plain text."""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import dmlm

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

# sphinx-autodoc-typehints calls a method that Sphinx 10 will drop; not ours to mend
warnings.filterwarnings("ignore", message=".*set_application.*")

project = "dmlm"
author = "The dmlm developers"
version = release = dmlm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_autodoc_typehints",
    "myst_parser",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"dmlm {release}"

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
typehints_defaults = "braces"
always_use_bars_union = True

nitpicky = True
# Only references to our own names must resolve; other projects' inventories would have to be fetched.
nitpick_ignore_regex = [(r"py:.*", r"(?!dmlm\.).*")]


def _resolve_public(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: Element) -> Element | None:
    """Point a reference that names the defining module (as type hints do) to where the object is documented."""
    target = node.get("reftarget", "")
    if not target.startswith("dmlm."):
        return None
    domain = env.get_domain("py")
    pattern = re.compile(rf"dmlm\..*\.{re.escape(target.rpartition('.')[2])}|{re.escape(target)}")
    found = [name for name in domain.objects if pattern.fullmatch(name)]
    if len(found) != 1:
        # a type alias or an object that has no entry: plain text
        return contnode if _exists(target) else None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", found[0], node, contnode)


def _exists(path: str) -> bool:
    """Whether a dotted path names something that can be imported."""
    import pydoc

    return pydoc.locate(path) is not None


def setup(app: Sphinx) -> None:
    """Connect the resolver."""
    app.connect("missing-reference", _resolve_public)
