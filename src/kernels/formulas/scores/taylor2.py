@score()
def taylor2(s, visible, length, constants, learned, sizes):
    weights = (1 + s + s * s / 2) * visible
    return weights / weights.sum(-1, keepdim=True), None
