"""Transfers: what a file on another machine is, and how it comes here whole, once, and as its publisher meant it.

Nothing here knows what a zoo is.
"""
