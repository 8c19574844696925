"""What self-training hooks share: a teacher's labels, the confidence from which they count, and how many may."""
