"""Put the champion into service on a cluster, without losing a request."""
