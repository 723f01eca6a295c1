"""Connecting an account by a link: the API to ask for it, and the page to answer on."""
