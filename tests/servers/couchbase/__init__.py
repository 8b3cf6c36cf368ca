"""
A stand-in for Couchbase, which no registry has: it speaks the wire protocols to the real SDK.

``node`` is the program, ``fixtures`` is what tests use.
"""

from __future__ import annotations
