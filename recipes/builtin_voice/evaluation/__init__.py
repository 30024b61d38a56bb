"""How good the voice in the box is: words, speakers, endings, codec, watermark."""
