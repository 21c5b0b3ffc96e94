@score(learned={"softmax_offset": -1.0})
def elastic_softmax(s, visible, length, constants, learned, sizes):
    weights = torch.softmax(s.masked_fill(~visible, -math.inf), dim=-1)
    offset = learned["softmax_offset"].to(s.dtype).view(1, -1, 1, 1) / length
    return torch.relu(weights + offset) * visible, None
