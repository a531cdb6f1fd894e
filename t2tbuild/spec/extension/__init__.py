"""Extensions: token attentions, tokenizers, block options and backbones from a Python file of the user's own."""
