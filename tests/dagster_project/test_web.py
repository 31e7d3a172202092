"""What another site's page, and a person's own, can do to the running web server."""
