"""permdoctor: a host-side doctor for "Permission denied" in containers.

Where to begin: ``kernel/__init__.py`` (what Linux decides), ``app/check.py`` (what the product
does), then the folder of interest.  Imports go down the house only; see ``pyproject.toml``.
"""

__version__ = "0.1.0"
