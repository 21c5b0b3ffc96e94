// Fills the page's template. Whatever comes from a run (names, notes, config values) is escaped here, or reaches the
// page inside the JSON, from where the scripts put it in as text only.
#include "report/report.h"

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/files/files.h"
#include "report/compare_table.h"
#include "report/findings.h"
#include "report/report_assets.h"

namespace sluice {
namespace {

constexpr size_t kColours = 8;  // in style.css

// Replaces every {{name}} of the template once: what is put in is not searched again.
std::string fill(std::string_view text, const std::map<std::string, std::string>& values) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t open = text.find("{{", at), close = text.find("}}", open);
    if (open == std::string_view::npos || close == std::string_view::npos) {
      out += text.substr(at);
      break;
    }
    out += text.substr(at, open - at);
    const std::string name(text.substr(open + 2, close - open - 2));
    const auto found = values.find(name);
    check(found != values.end(), "the report's template names an unknown value");
    out += found->second;
    at = close + 2;
  }
  return out;
}

std::string swatch(size_t group) { return fmt::format("<i class=\"swatch\" data-group=\"{}\"></i>", group % kColours); }

std::string table_head_html(const TextTable& table) {
  std::string groups = "<tr><th></th>", titles = "<tr><th scope=\"col\">" + escape_html(table.corner) + "</th>";
  for (size_t c = 0; c < table.columns.size();) {
    size_t end = c + 1;
    while (end < table.columns.size() && table.columns[end].group == table.columns[c].group) ++end;
    groups += fmt::format("<th colspan=\"{}\"{}>{}</th>", end - c,
                          table.columns[c].group.empty() ? "" : " class=\"span\"", escape_html(table.columns[c].group));
    for (; c < end; ++c) titles += "<th scope=\"col\">" + escape_html(table.columns[c].title) + "</th>";
  }
  return groups + "</tr>\n" + titles + "</tr>\n";
}

std::string table_html(const TextTable& table) {
  std::string out = "<table>\n<thead>\n" + table_head_html(table) + "</thead>\n<tbody>\n";
  for (const TextRow& row : table.rows) {
    out += fmt::format("<tr{}><th scope=\"row\">{}{}</th>", row.is_mean ? " class=\"mean\"" : "",
                       swatch(row.seed_group), escape_html(row.label));
    for (const std::string& cell : row.cells) out += "<td>" + escape_html(cell) + "</td>";
    out += "</tr>\n";
  }
  out += "</tbody>\n</table>\n";
  return out;
}

std::string list_html(const std::vector<std::string>& lines, const char* css_class) {
  if (lines.empty()) return "";
  std::string out = fmt::format("<ul class=\"{}\">\n", css_class);
  for (const std::string& line : lines) out += "<li>" + escape_html(line) + "</li>\n";
  return out + "</ul>\n";
}

// Prose, with "position 0" kept on one line.
std::string prose_html(const std::string& text) {
  static const std::string kWords = "position 0";
  std::string out = escape_html(text);
  for (size_t at = 0; (at = out.find(kWords, at)) != std::string::npos; at += kWords.size()) {
    out.replace(at, kWords.size(), "position&nbsp;0");
  }
  return out;
}

std::string findings_html(const Comparison& comparison) {
  const std::vector<Finding> findings = find_findings(comparison);
  if (findings.empty()) return "";
  std::string out =
      "<section>\n<h2>In short</h2>\n<p class=\"intro\">Computed from the final figures of these runs.</p>\n"
      "<div class=\"findings\">\n";
  for (const Finding& finding : findings) {
    out += fmt::format("<article>\n<h3>{}</h3>\n<p>{}</p>\n<ul>\n", escape_html(finding.title),
                       prose_html(finding.explanation));
    for (const FindingItem& item : finding.items) {
      out += fmt::format("<li>{}<b>{}</b> {}.</li>\n", swatch(item.seed_group),
                         escape_html(comparison.groups[item.seed_group].label), prose_html(item.text));
    }
    out += "</ul>\n";
    if (!finding.verdict.empty()) out += "<p class=\"verdict\">" + prose_html(finding.verdict) + "</p>\n";
    out += "</article>\n";
  }
  return out + "</div>\n</section>\n";
}

std::string note_html(const std::string& note) {
  return note.empty() ? "" : "<p class=\"lead note\">" + prose_html(note) + "</p>";
}

std::string page_title(const Comparison& comparison) {
  std::vector<std::string> labels;
  for (const SeedGroup& group : comparison.groups) labels.push_back(group.label);
  if (labels.size() > 4) return fmt::format("{} and {} more", labels.front(), labels.size() - 1);
  return join_words(labels);
}

}  // namespace

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string script_json(const Json& json) {
  // Bytes that are no UTF-8 (half a character as a token) become the replacement character.
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string out;
  for (const char c : text) {
    if (c == '<') out += "\\u003c";  // "<" stands only inside JSON strings
    else if (c == '>') out += "\\u003e";
    else if (c == '&') out += "\\u0026";
    else out += c;
  }
  return out;
}

std::string report_html(const Comparison& comparison) {
  const TextTable table = make_table(comparison);
  return fill(assets::page_html, {{"title", escape_html(page_title(comparison))},
                                  {"style", std::string(assets::style_css)},
                                  {"note", note_html(comparison.note)},
                                  {"findings", findings_html(comparison)},
                                  {"table", table_html(table)},
                                  {"footnotes", list_html(table.footnotes, "footnotes")},
                                  {"warnings", list_html(comparison.warnings, "warnings")},
                                  {"data", script_json(report_data(comparison))},
                                  {"chart_library", std::string(assets::chart_library_js)},
                                  {"scripts", std::string(assets::charts_js) + std::string(assets::positions_js) +
                                                  std::string(assets::maps_js) + std::string(assets::page_js)}});
}

void write_report(const Comparison& comparison, const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  if (!folder.empty()) create_folders(folder);
  write_named_file(path, report_html(comparison));
}

}  // namespace sluice
