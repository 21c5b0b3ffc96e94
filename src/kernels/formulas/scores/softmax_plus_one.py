@score()
def softmax_plus_one(s, visible, length, constants, learned, sizes):
    return softmax_with_sinks(s, visible, s.new_zeros(s.shape[1]))
