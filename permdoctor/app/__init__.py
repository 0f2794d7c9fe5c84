"""The use cases, one function each.  ``check.py`` is the product; begin there."""
