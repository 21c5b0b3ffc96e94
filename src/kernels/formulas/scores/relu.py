@score()
def relu(s, visible, length, constants, learned, sizes):
    return torch.relu(s) / length * visible, None
