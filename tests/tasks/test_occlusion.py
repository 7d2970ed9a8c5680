import numpy as np
import torch

from dmlm.tasks.occlusion import occlusion_map


def bright_corner(images):
    """A model that looks at the top left quarter only; two answers, of which the second never changes."""
    share = images[:, 0, :8, :8].float().mean(dim=(1, 2)).numpy() / 255
    return np.stack([np.clip(share, 0.01, 0.99), np.full(len(images), 0.3)], axis=1)


def test_covering_what_the_model_looks_at_lowers_its_answer():
    image = torch.zeros(1, 16, 16, dtype=torch.uint8)
    image[:, :8, :8] = 250
    found = occlusion_map(bright_corner, image, 0, grid=4)
    assert found.shape == (4, 4)
    assert (found[:2, :2] > 0.1).all()
    np.testing.assert_allclose(found[2:], 0, atol=1e-12)
    np.testing.assert_allclose(found[:, 2:], 0, atol=1e-12)
    np.testing.assert_allclose(occlusion_map(bright_corner, image, 1, grid=4), 0, atol=1e-12)


def test_squares_cover_images_that_the_grid_does_not_divide():
    image = torch.full((1, 15, 15), 200, dtype=torch.uint8)
    image[:, 14, 14] = 0
    seen = []
    occlusion_map(lambda images: seen.append(images) or np.full((len(images), 1), 0.5), image, 0, grid=4)
    changed = (seen[0][1:] != seen[0][:1]).any(dim=0)[0]
    assert changed.all()
    assert (image == torch.where(torch.arange(225).reshape(1, 15, 15) == 224, 0, 200)).all()
