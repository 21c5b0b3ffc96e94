# ---- score functions -----------------------------------------------------------------------------------------------
#
# score(s, visible, length, constants, learned, sizes) makes attention weights of the scores s [B, H, T, S], and weights
# [B, H, T, n] of n sinks that are no keys, or None. `visible` [B, 1, T, S] says which keys a row sees, `length` [B, 1, T, 1]
# how many tokens these are; `constants` has what the config says of the function, `learned` a tensor [H] for each name of
# what it learns; `sizes` has the model's context and the features of a query's head. SCORES holds them by name, with the
# constants' defaults, with what is learned and its initial values, and whether scores are divided by sqrt(head_size).

Score = collections.namedtuple("Score", "weigh constants learned scaled")
Sizes = collections.namedtuple("Sizes", "context head_size")
SCORES = {}


def score(constants=None, learned=None, scaled=True):
    def add(weigh):
        SCORES[weigh.__name__] = Score(weigh, constants or {}, learned or {}, scaled)
        return weigh

    return add


def softmax_with_sinks(s, visible, *logits):
    """Sinks are keys without values whose scores are `logits`, [H] each."""
    columns = [logit.to(s.dtype).view(1, -1, 1, 1).expand(s.shape[0], -1, s.shape[2], 1) for logit in logits]
    weights = torch.softmax(torch.cat([*columns, s.masked_fill(~visible, -math.inf)], dim=-1), dim=-1)
    return weights[..., len(logits) :], weights[..., : len(logits)]
