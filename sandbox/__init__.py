"""A market on this machine that speaks the vendors' wire formats; the app only knows its URLs."""
