// Columns fitted beside the labels, aligned or as Markdown (text_table.h).
#include "base/text_table.h"

#include <algorithm>

#include "base/console.h"

namespace sluice {
namespace {

constexpr size_t kGap = 2;  // blanks between columns

std::string padded(const std::string& text, size_t width, bool to_the_right) {
  const std::string blanks(width - std::min(width, display_width(text)), ' ');
  return to_the_right ? blanks + text : text + blanks;
}

// Columns [begin, end) that fit beside the labels; at least one, and a heading is not torn apart if it fits.
size_t block_end(const TextTable& table, const std::vector<size_t>& widths, size_t label_width, size_t begin,
                 size_t max_width) {
  if (max_width == 0) return table.columns.size();
  size_t used = label_width, end = begin;
  while (end < table.columns.size() && used + kGap + widths[end] <= max_width) used += kGap + widths[end++];
  if (end == table.columns.size()) return end;
  size_t cut = end;
  const auto same_group = [&](size_t i) {
    return !table.columns[i].group.empty() && table.columns[i].group == table.columns[i - 1].group;
  };
  while (cut > begin && same_group(cut)) --cut;
  if (cut > begin) return cut;
  return std::max(end, begin + 1);
}

std::string group_line(const TextTable& table, const std::vector<size_t>& widths, size_t label_width, size_t begin,
                       size_t end) {
  std::string line(label_width, ' ');
  for (size_t i = begin; i < end;) {
    size_t last = i, width = widths[i];
    while (last + 1 < end && table.columns[last + 1].group == table.columns[i].group) width += kGap + widths[++last];
    line += std::string(kGap, ' ') + padded(table.columns[i].group, width, /*to_the_right=*/i == last);
    i = last + 1;
  }
  return line;
}

std::string trimmed(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace

std::string to_text(const TextTable& table, size_t max_width) {
  size_t label_width = display_width(table.corner);
  for (const TextRow& row : table.rows) label_width = std::max(label_width, display_width(row.label));
  std::vector<size_t> widths;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    widths.push_back(display_width(table.columns[c].title));
    for (const TextRow& row : table.rows) widths[c] = std::max(widths[c], display_width(row.cells[c]));
  }
  // A heading wider than its columns widens the last of them.
  for (size_t c = 0; c < table.columns.size();) {
    size_t last = c, width = widths[c];
    while (last + 1 < table.columns.size() && table.columns[last + 1].group == table.columns[c].group) {
      width += kGap + widths[++last];
    }
    const size_t wanted = display_width(table.columns[c].group);
    if (wanted > width) widths[last] += wanted - width;
    c = last + 1;
  }

  std::string out;
  size_t begin = 0;
  do {  // once at least: a table without columns still names its runs
    const size_t end = block_end(table, widths, label_width, begin, max_width);
    if (begin > 0) out += "\n";
    out += trimmed(group_line(table, widths, label_width, begin, end));
    std::string titles = padded(table.corner, label_width, false);
    for (size_t c = begin; c < end; ++c)
      titles += std::string(kGap, ' ') + padded(table.columns[c].title, widths[c], true);
    out += trimmed(titles) + std::string(display_width(titles), '-') + "\n";
    for (const TextRow& row : table.rows) {
      std::string line = padded(row.label, label_width, false);
      for (size_t c = begin; c < end; ++c) line += std::string(kGap, ' ') + padded(row.cells[c], widths[c], true);
      out += trimmed(line);
    }
    begin = end;
  } while (begin < table.columns.size());
  for (const std::string& note : table.footnotes) out += note + "\n";
  return out;
}

std::string to_markdown(const TextTable& table) {
  const auto escaped = [](const std::string& text) {
    std::string out;
    for (const char c : text) {
      if (c == '|' || c == '\\') out += '\\';
      out += c;
    }
    return out;
  };
  std::string head = "| " + table.corner + " |", rule = "|---|", body;
  for (const TextColumn& column : table.columns) {
    head += " " + escaped(column.group.empty() ? column.title : column.group + " " + column.title) + " |";
    rule += "---:|";
  }
  for (const TextRow& row : table.rows) {
    body += "| " + escaped(row.label) + " |";
    for (const std::string& cell : row.cells) body += " " + cell + " |";
    body += "\n";
  }
  std::string out = head + "\n" + rule + "\n" + body + "\n";
  for (const std::string& note : table.footnotes) out += "- " + escaped(note) + "\n";
  return out;
}

}  // namespace sluice
