"""The worlds as environments of other libraries; nothing else in the package imports them."""
