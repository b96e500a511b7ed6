"""The networks of the paper for small images: VGG-13, MobileNet-V1 and ResNet-56."""
