"""Audio files in and out, prepared folders of clips, and the crops that are read from them."""
