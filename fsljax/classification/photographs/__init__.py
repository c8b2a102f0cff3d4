"""What is measured and looked for in photographs of classes, by the embeddings of a network and the heads."""
