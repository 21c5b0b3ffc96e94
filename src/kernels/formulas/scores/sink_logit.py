@score(learned={"sink_logit": 0.0})
def sink_logit(s, visible, length, constants, learned, sizes):
    return softmax_with_sinks(s, visible, learned["sink_logit"])
