"""Write files that stay whole and never overwrite a user's file. Imports no torch."""
