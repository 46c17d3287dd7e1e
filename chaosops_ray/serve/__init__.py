"""The worlds behind OpenEnv's HTTP and WebSocket interface; policies are passed in by the command line."""
