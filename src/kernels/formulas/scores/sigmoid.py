@score(constants={"bias": 0.0, "minus_log_length": False})
def sigmoid(s, visible, length, constants, learned, sizes):
    s = s + constants["bias"]
    if constants["minus_log_length"]:
        s = s - length.log()
    return torch.sigmoid(s) * visible, None
