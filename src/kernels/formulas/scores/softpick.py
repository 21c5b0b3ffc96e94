@score(constants={"epsilon": 1e-8})
def softpick(s, visible, length, constants, learned, sizes):
    top = s.masked_fill(~visible, 0).amax(-1, keepdim=True).clamp(min=0)  # all terms are divided by e^top
    terms = (torch.exp(s - top) - torch.exp(-top)) * visible
    return torch.relu(terms) / (terms.abs().sum(-1, keepdim=True) + constants["epsilon"] * torch.exp(-top)), None
