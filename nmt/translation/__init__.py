"""Translation: lines to searches and back, whatever the engine. Nothing is imported here."""
