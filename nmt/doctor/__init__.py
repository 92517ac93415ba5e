"""What is wrong with corpora: found and said before anything is trained on them."""
