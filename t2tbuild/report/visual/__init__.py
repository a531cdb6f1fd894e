"""Pictures of what a model sees: feature maps, attention, the pixels behind a token. Numbers first, then drawings."""
