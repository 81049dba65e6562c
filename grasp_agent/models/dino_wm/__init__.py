"""DINO-WM: world models on frozen DINOv2 patches."""
