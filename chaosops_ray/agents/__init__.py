"""Between a world and a language model: the conversation of a seat, its tokens, and served models."""
