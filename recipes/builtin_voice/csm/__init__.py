"""A small CSM: tokenizer, backbone and depth decoder, trained on the codes of the small Mimi."""
