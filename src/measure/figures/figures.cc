// The list of figures with meters of their own: a new one is its file and a line here.
#include "measure/figures/first_position_argmax.h"

namespace sluice {

template <>
std::vector<MeteredFigure>& part_list() {
  static std::vector<MeteredFigure> list = {
      first_position_argmax(),
  };
  return list;
}

const std::vector<MeteredFigure>& metered_figures() { return part_list<MeteredFigure>(); }

}  // namespace sluice
