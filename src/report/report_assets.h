// The report's files as strings; cmake/embed.cmake turns each into a source file of the build.
#pragma once

#include <string_view>

namespace sluice::assets {

extern const std::string_view page_html, style_css, charts_js, positions_js, maps_js, page_js;  // src/report/page/
extern const std::string_view chart_library_js;                                                 // Chart.js, minified

}  // namespace sluice::assets
