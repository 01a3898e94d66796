"""The U-Net and its descendants."""
