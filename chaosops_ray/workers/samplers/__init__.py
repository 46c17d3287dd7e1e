"""Token engines behind one protocol."""
