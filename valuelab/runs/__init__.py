"""One run: its command line and settings, what it learns from, how it goes, and the files that it leaves."""
