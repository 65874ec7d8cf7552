"""The town: an embedded CARLA 0.9.16 server, CPU only. It imports nothing else of Roadworthy."""
