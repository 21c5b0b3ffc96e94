@score(constants={"beta": 1.0}, scaled=False)
def threshold(s, visible, length, constants, learned, sizes):
    threshold = constants["beta"] * torch.sqrt(2 * torch.log(length) / sizes.head_size)
    return torch.relu(s - threshold).square() * visible, None
