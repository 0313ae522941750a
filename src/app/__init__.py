"""The web app and the rating study."""
