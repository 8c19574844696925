"""What hooks that look at features share: the choice of taps, vectors out of maps, discriminators."""
