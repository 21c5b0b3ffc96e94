#include "report/report.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "report/report_assets.h"
#include "report/run_builder.h"

namespace sluice {
namespace {

Comparison compare_paths(const std::vector<std::string>& paths) {
  std::vector<RunRecord> runs;
  for (const std::string& path : paths) runs.push_back(read_run(path));
  return compare_runs(std::move(runs));
}

// Everything but Chart.js, whose licence comment names its home page.
std::string own_part(std::string html) {
  const size_t at = html.find(assets::chart_library_js);
  if (at != std::string::npos) html.erase(at, assets::chart_library_js.size());
  return html;
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

std::string embedded_json(const std::string& html) {
  const std::string open = "id=\"data\">";
  const size_t begin = html.find(open) + open.size();
  return html.substr(begin, html.find("</script>", begin) - begin);
}

// The text with every script's content taken out.
std::string without_scripts(const std::string& html) {
  std::string out;
  size_t from = 0;
  for (size_t open; (open = html.find("<script", from)) != std::string::npos;) {
    const size_t begin = html.find('>', open) + 1, end = html.find("</script>", begin);
    out += html.substr(from, begin - from);
    from = end;
  }
  return out + html.substr(from);
}

TEST(Report, CarriesEverythingAndLoadsNothing) {
  RunBuilder build;
  const std::string html =
      report_html(compare_paths({build.add("softmax", 1, 0.8), build.add("vga", 1, 0.1, kOutputGate)}));
  EXPECT_NE(html.find(assets::chart_library_js), std::string::npos);
  EXPECT_GT(assets::chart_library_js.size(), 100'000u);
  const std::string own = own_part(html);
  for (const char* outside : {"http://", "https://", "src=", "<link", "<img", "@import", "url("}) {
    EXPECT_EQ(own.find(outside), std::string::npos) << outside;
  }
  EXPECT_EQ(own.find("{{"), std::string::npos) << "a template value was not filled in";
}

TEST(Report, IsWellFormed) {
  RunBuilder build;
  const std::string html =
      report_html(compare_paths({build.add("softmax", 1, 0.8), build.add("vga", 1, 0.1, kOutputGate)}));
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html>"));
  const std::string markup = without_scripts(own_part(html));
  for (const char* tag : {"html",  "head", "body", "main", "nav", "style", "section", "article", "table", "thead",
                          "tbody", "tr",   "th",   "td",   "ul",  "li",    "h2",      "h3",      "div",   "script"}) {
    const std::string name = tag;
    EXPECT_EQ(count(markup, "<" + name + ">") + count(markup, "<" + name + " "), count(markup, "</" + name + ">"))
        << tag;
  }
  EXPECT_EQ(count(html, "<script"), count(html, "</script>"));
  // Every column of the table in every row.
  EXPECT_EQ(count(markup, "<td>") % 2, 0u);
}

TEST(Report, EscapesNamesNotesAndTokens) {
  RunBuilder build;
  const std::string evil = "</script><img onerror=x> & \"q\" 'a'";
  const std::string path = build.add("softmax", 1, 0.8);
  Json config = Json::parse(std::ifstream(path + "/config.json"));
  config["name"] = evil;
  build.write("softmax", "config.json", config.dump());
  const Comparison comparison = compare_paths({path});
  const std::string html = report_html(comparison);
  EXPECT_EQ(html.find("<img"), std::string::npos);
  EXPECT_NE(html.find("&lt;/script&gt;&lt;img onerror=x&gt; &amp; &quot;q&quot; &#39;a&#39;"), std::string::npos);
  // What stands in the script is the same data again.
  EXPECT_EQ(Json::parse(embedded_json(html)), Json::parse(report_data(comparison).dump()));
  EXPECT_EQ(Json::parse(embedded_json(html)).at("runs").at(0).at("config").at("name"), evil);
  EXPECT_EQ(count(html, "<script"), count(html, "</script>"));
}

TEST(Report, ScriptJsonTakesBrokenUtf8) {
  const std::string text = script_json(Json{{"token", "\xff<!--&"}});
  EXPECT_EQ(text, "{\"token\":\"\xEF\xBF\xBD\\u003c!--\\u0026\"}");
}

TEST(Report, DataHoldsCurvesAndMaps) {
  RunBuilder build;
  const Json data =
      report_data(compare_paths({build.add("v1", 1, 0.2, kOutputGate), build.add("v2", 2, 0.2, kOutputGate)}));
  ASSERT_EQ(data.at("groups").size(), 1u);
  EXPECT_EQ(data.at("groups").at(0).at("runs"), (Json{0, 1}));
  const Json& run = data.at("runs").at(1);
  bool found = false;
  for (const Json& series : run.at("series")) {
    if (series.at("kind") != "risk" || series.at("field") != "backcopy") continue;
    found = true;
    EXPECT_EQ(data.at("step_lists").at(series.at("steps").get<size_t>()), (Json{0, 10, 20}));
    EXPECT_EQ(series.at("values"), (Json{0.1, 0.009091, 0.004762}));
  }
  EXPECT_TRUE(found);
  const Json& map = run.at("attention").at("last").at("maps").at(0);
  // 1, 0.2, 0.8 of 4095: 4095 = 63,63 -> "//"; 819 = 12,51 -> "Mz"; 3276 = 51,12 -> "zM"
  EXPECT_EQ(map.at("codes"), "//MzzM");
  EXPECT_EQ(data.at("runs").at(0).at("attention").at("first").at("tokens").at(0), "BOS");
}

TEST(Report, MapsMayHoldTheLargestNumbers) {
  RunBuilder build;
  const std::string path = build.add("a", 1, 0.2);
  build.write("a", "attention/step_00000020.json",
              R"({"step":20,"tokens":["a","b"],"maps":[{"layer":0,"head":0,"weights":[[-1.7e308],[1.7e308,0]]}]})");
  const Json data = report_data(compare_paths({path}));
  const Json& map = data.at("runs").at(0).at("attention").at("last").at("maps").at(0);
  EXPECT_EQ(map.at("codes"), "AA//gA") << "the least, the largest, and the middle: 0, 4095 and 2048";
}

TEST(Report, ThinsLongSeries) {
  RunBuilder build;
  std::string metrics;
  for (int step = 1; step <= 5000; ++step) {
    metrics += fmt::format("{{\"kind\":\"train\",\"step\":{},\"loss\":{}}}\n", step, step % 2);
    metrics += fmt::format("{{\"kind\":\"eval\",\"step\":{},\"loss\":{}}}\n", step, step);
  }
  const Json data = report_data(compare_paths({build.write("long", "metrics.jsonl", metrics)}));
  ASSERT_EQ(data.at("runs").at(0).at("series").size(), 2u);
  for (const Json& series : data.at("runs").at(0).at("series")) {
    const Json& steps = data.at("step_lists").at(series.at("steps").get<size_t>());
    EXPECT_EQ(steps.size(), series.at("values").size());
    EXPECT_LE(steps.size(), 1001u);
    EXPECT_GE(steps.size(), 900u);
    EXPECT_EQ(steps.back(), 5000);
    if (series.at("kind") == "eval") {
      EXPECT_EQ(steps.front(), 1);
      EXPECT_EQ(series.at("values").back(), 5000.0);
    } else {
      EXPECT_NEAR(series.at("values").at(0).get<double>(), 0.6, 1e-9);  // the mean of 1, 0, 1, 0, 1
    }
  }
}

TEST(Report, CarriesTheCallersNote) {
  RunBuilder build;
  Comparison comparison = compare_paths({build.write("noted", "config.json", "{}")});
  EXPECT_EQ(report_html(comparison).find("lead note"), std::string::npos);
  comparison.note = "batch < 512 & lr 1e-3";
  EXPECT_NE(report_html(comparison).find("<p class=\"lead note\">batch &lt; 512 &amp; lr 1e-3</p>"), std::string::npos);
}

TEST(Report, WritesIntoANewFolderAndNamesWhatItCannotWrite) {
  RunBuilder build;
  const Comparison comparison = compare_paths({build.write("empty", "config.json", "{}")});
  const std::string path = build.path("new/folder/report.html");
  write_report(comparison, path);
  std::ifstream in(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), report_html(comparison));
  try {
    write_report(comparison, build.path("empty/config.json/report.html"));
    FAIL() << "a file is no folder";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("config.json"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace sluice
