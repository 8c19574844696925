"""Tables of hostile datasets, made by code: each case writes one into a folder, and says what must come of it."""
