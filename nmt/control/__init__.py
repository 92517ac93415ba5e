"""Control: what users ask of the words of a translation. No Keras here."""
