"""Carry out changes, and take them back."""
