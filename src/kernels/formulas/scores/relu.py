@score()
def relu(s, visible, length, constants, learned, context):
    return torch.relu(s) / length * visible, None
