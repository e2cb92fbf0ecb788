"""The network of a stream: how it is built, where its weights start, what runs it, and its form for other runtimes."""
