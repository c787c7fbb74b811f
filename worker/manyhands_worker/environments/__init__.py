"""Environments for jobs with requirements: made once on each host, and used by all its nodes."""
