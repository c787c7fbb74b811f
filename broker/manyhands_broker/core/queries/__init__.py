"""Answers to questions. Nothing here changes anything."""
