"""How Sphinx builds the site: `make docs`."""

from importlib.metadata import version as installed_version

project = "effboost"
author = "The effboost developers"
copyright = "The effboost developers"
version = release = installed_version("effboost")

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
exclude_patterns = ["_build", "examples"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say types in words
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
default_role = "py:obj"
# Docstrings inherited from scikit-learn refer to labels and terms of its own site.
suppress_warnings = ["ref.ref", "ref.term"]

plot_include_source = False
plot_html_show_formats = False
plot_html_show_source_link = False
plot_formats = [("png", 100)]

html_theme = "pydata_sphinx_theme"
html_title = "effboost"
html_theme_options = {"show_prev_next": True, "secondary_sidebar_items": ["page-toc"]}
html_show_sourcelink = False

copybutton_exclude = ".linenos, .gp, .go"

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "doc_module": ("effboost",),
    "backreferences_dir": None,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    # Its pages load scripts of other servers.
    "write_computation_times": False,
    "matplotlib_animations": False,
}
