// The report page: one HTML file that carries its data, its styles, its scripts and the charting library, so that it
// opens anywhere and offline. Text and tables are written here and can be read without scripts; the curves and the
// attention maps are drawn in the browser from the embedded JSON (src/report/page/*.js).
#pragma once

#include <string>

#include "report/compare.h"

namespace sluice {

std::string report_html(const Comparison& comparison);

// Writes report_html to `path`, creating its folder. Throws as write_named_file does.
void write_report(const Comparison& comparison, const std::string& path);

// What the scripts read. Long series are thinned (the training loss to means, the rest to every k-th point, first and
// last kept) and the largest part of the attention maps is left out where the page would grow beyond about 1.5 MB.
Json report_data(const Comparison& comparison);

// JSON text that may stand inside a <script> element: no character in it can end the element.
std::string script_json(const Json& json);
std::string escape_html(const std::string& text);

}  // namespace sluice
