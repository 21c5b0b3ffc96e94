@score(constants={"gamma": -0.03, "alpha": 0.0, "zeta": 1.0})
def clipped_softmax(s, visible, length, constants, learned, sizes):
    weights = torch.softmax(s.masked_fill(~visible, -math.inf), dim=-1)
    gamma = -constants["alpha"] / sizes.context if constants["alpha"] > 0 else constants["gamma"]
    return ((constants["zeta"] - gamma) * weights + gamma).clamp(0, 1) * visible, None
