#include <string>

#include "check.hpp"
#include "core/json.hpp"

namespace {

using namespace dmpc;
using test::contains;
using test::error_of;

std::string error(const std::string& text) {
    return error_of<json::SyntaxError>([&] { json::parse(text); });
}

std::string nested(int levels) {
    return std::string(static_cast<std::size_t>(levels), '[') +
           std::string(static_cast<std::size_t>(levels), ']');
}

void values_survive_writing() {
    const std::string text =
        R"({"a": [1, -0.5e-3, true, false, null, []], "b": {}, "c": "x\"\\\u0001é"})";
    const json::Value value = json::parse(text);
    const std::string written = json::write(value);
    CHECK(json::write(json::parse(written)) == written);
    CHECK(contains(written, "[1, -0.5e-3, true, false, null, []]"));
    CHECK(contains(written, "\\\"\\\\\\u0001\xC3\xA9"));
}

void numbers_keep_their_kind() {
    const auto number = [](const char* text) { return *json::parse(text).get<json::Number>(); };
    CHECK(number("42").integer() == 42);
    CHECK(number("-9223372036854775808").integer() == INT64_MIN);
    CHECK(!number("9223372036854775808").integer());
    CHECK(!number("1.0").integer() && !number("1e2").integer());
    CHECK(number("1e2").real() == 100.0);
    CHECK(number("1e-999").real() == 0.0);
    CHECK(number("5e-324").real() == 5e-324);
    CHECK(contains(error("1e999"), "double precision"));
    CHECK(contains(error(std::string(65, '9')), "at most 64"));
}

void escapes_become_utf8() {
    const auto text = [](const char* json) { return *json::parse(json).get<std::string>(); };
    CHECK(text(R"("\u00e9\u20ac\ud83d\ude00\/\n")") == "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80/\n");
    CHECK(text(R"("\u0000")") == std::string(1, '\0'));
    for (const char* wrong :
         {R"("\ud83d")", R"("\ude00")", R"("\ud83d\u0041")", R"("\u12g4")", R"("\x41")", "\"\x01\"",
          "\"\xC0\x80\"", "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xE2\x82\"", "\"\xFF\"",
          "\"abc", "\"\\"}) {
        CHECK(!error(wrong).empty());
    }
}

void what_is_not_json_is_refused() {
    for (const char* wrong : {"",
                              " ",
                              "nul",
                              "+1",
                              "01",
                              "1.",
                              ".5",
                              "1e",
                              "-",
                              "NaN",
                              "Infinity",
                              "[1,]",
                              "[1 2]",
                              "{\"a\"}",
                              "{\"a\":}",
                              "{a:1}",
                              "{\"a\":1,}",
                              "1 2",
                              "\xEF\xBB\xBF{}",
                              "[",
                              "{",
                              "'a'"}) {
        CHECK(!error(wrong).empty());
    }
    CHECK(contains(error(R"({"a": 1, "b": 2, "a": 3})"), "'a' appears twice"));
}

void nesting_is_bounded() {
    CHECK(error(nested(json::kMaxDepth + 1)).empty());
    CHECK(contains(error(nested(json::kMaxDepth + 2)), "nesting"));
    CHECK(contains(error(std::string(1 << 20, '[')), "nesting"));
}

}  // namespace

int main() {
    values_survive_writing();
    numbers_keep_their_kind();
    escapes_become_utf8();
    what_is_not_json_is_refused();
    nesting_is_bounded();
}
