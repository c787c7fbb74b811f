"""Which requests the HTTP server answers: for which hosts, from which pages, by which key."""
