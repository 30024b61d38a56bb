"""How good the built-in voice is: words, speakers, endings, codec, watermark."""
