"""The rows: every module here has a list ``ROWS``."""
