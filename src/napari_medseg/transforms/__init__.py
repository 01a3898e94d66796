"""Operations on voxels: intensity normalisation, resampling, augmentation."""
