"""Work on corpora before anything is trained: the formats of their files, conversion, and the split into parts."""
