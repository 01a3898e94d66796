"""Results of nnU-Net, and folders of several of them as TotalSegmentator has."""
