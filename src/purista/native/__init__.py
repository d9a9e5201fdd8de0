"""The languages of schedulers: how each writes times, settings and files. What a schedule means is not here."""
