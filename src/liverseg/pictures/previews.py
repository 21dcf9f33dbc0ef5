"""What a recipe of augmentation does: images as they are, and as some epochs see them."""

from PIL import Image
from torchvision.transforms.v2 import functional

from liverseg.data import PairDataModule, as_three, read_shown, resize_image
from liverseg.labels import first_scored
from liverseg.pictures.cases import as_shown
from liverseg.pictures.sheets import Tile, draw_sheet


def draw_augmentation(
    data: PairDataModule, *, num_images: int = 4, num_draws: int = 5
) -> Image.Image:
    """Draw images of train, spread over it, each with its mask and, beside it, draws of the recipe.

    Args:
        data: The pairs and their augmentation.
        num_images: Rows at most.
        num_draws: Columns besides the first one.
    """
    dataset = data.dataset("train")
    count = min(num_images, len(dataset))
    first_channel = data.slices // 2 * data.channels
    tiles = []
    for place in range(count):
        index = (2 * place + 1) * len(dataset) // (2 * count)
        pair = dataset.pairs[index]
        plain = as_shown(read_shown(pair.image, data.channels, data.white_value))
        mask = data.mask_reader.read(pair.mask)
        if data.image_size is not None:
            plain = resize_image(plain, data.image_size)
            mask = functional.resize_mask(mask[None], list(data.image_size))[0]
        tiles.append(Tile(pair.name, plain, mask))
        images, masks = data.augmented(index, range(num_draws))
        images = images[:, first_channel : first_channel + data.channels]
        for epoch, (image, its) in enumerate(zip(images, masks, strict=True), start=1):
            tiles.append(Tile(f"epoch {epoch}", as_three(image), its))
    first = first_scored(data.num_classes, data.class_names)
    return draw_sheet(tiles, first=first, num_columns=num_draws + 1)
