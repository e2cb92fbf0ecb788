"""The service: live recognition over a socket, videos over HTTP, teaching, metrics, and the page that shows it all."""
