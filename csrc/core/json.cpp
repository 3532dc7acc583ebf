#include "json.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

namespace dmpc::json {
namespace {

constexpr std::size_t kShownLength = 80;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/// Bytes of the UTF-8 character that starts at `at`, 0 where there is none (Unicode 15, table 3-7).
std::size_t character_length(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) {
        return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
    };
    const auto follows = [&](std::size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
    const unsigned first = byte(0), second = byte(1);
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4 || !follows(1)) return 0;
    if (first < 0xE0) return 2;
    if (!follows(2)) return 0;
    if (first == 0xE0 && second < 0xA0) return 0;  // overlong
    if (first == 0xED && second > 0x9F) return 0;  // surrogate
    if (first < 0xF0) return 3;
    if (!follows(3)) return 0;
    if (first == 0xF0 && second < 0x90) return 0;  // overlong
    if (first == 0xF4 && second > 0x8F) return 0;  // beyond U+10FFFF
    return 4;
}

void append_utf8(std::string& out, std::uint32_t code) {
    const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xC0 | code >> 6);
        put(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        put(0xE0 | code >> 12);
        put(0x80 | (code >> 6 & 0x3F));
        put(0x80 | (code & 0x3F));
    } else {
        put(0xF0 | code >> 18);
        put(0x80 | (code >> 12 & 0x3F));
        put(0x80 | (code >> 6 & 0x3F));
        put(0x80 | (code & 0x3F));
    }
}

class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    Value document() {
        Value result = value(0);
        skip_space();
        if (at_ != text_.size()) fail("the end of the text");
        return result;
    }

private:
    [[noreturn]] void fail(std::string_view expected) const {
        throw SyntaxError("expected " + std::string(expected) + " at byte " + std::to_string(at_));
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    bool take(char c) {
        if (at_ == text_.size() || text_[at_] != c) return false;
        ++at_;
        return true;
    }

    void skip_space() {
        while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != text_.npos) {
            ++at_;
        }
    }

    Value value(int depth) {
        if (depth > kMaxDepth) fail("at most " + std::to_string(kMaxDepth) + " levels of nesting");
        skip_space();
        switch (peek()) {
            case '{': return {object(depth)};
            case '[': return {array(depth)};
            case '"': return {string()};
            case 't': return word("true", true);
            case 'f': return word("false", false);
            case 'n': return word("null", nullptr);
            default: return {number()};
        }
    }

    template <class T>
    Value word(std::string_view text, T meaning) {
        if (text_.substr(at_, text.size()) != text) fail("a value");
        at_ += text.size();
        return {meaning};
    }

    Object object(int depth) {
        Object members;
        ++at_;
        skip_space();
        if (take('}')) return members;
        do {
            skip_space();
            if (peek() != '"') fail("a key in double quotes");
            std::string key = string();
            skip_space();
            if (!take(':')) fail("':'");
            Value member = value(depth + 1);
            if (!members.try_emplace(key, std::move(member)).second) {
                throw SyntaxError("the key '" + key + "' appears twice");
            }
            skip_space();
        } while (take(','));
        if (!take('}')) fail("',' or '}'");
        return members;
    }

    Array array(int depth) {
        Array items;
        ++at_;
        skip_space();
        if (take(']')) return items;
        do {
            items.push_back(value(depth + 1));
            skip_space();
        } while (take(','));
        if (!take(']')) fail("',' or ']'");
        return items;
    }

    std::string string() {
        std::string result;
        ++at_;
        for (;;) {
            if (at_ == text_.size()) fail("'\"'");
            const char c = text_[at_];
            if (c == '"') break;
            if (static_cast<unsigned char>(c) < 0x20) fail("an escape for a control character");
            if (c == '\\') {
                ++at_;
                append_utf8(result, escape());
                continue;
            }
            const std::size_t length = character_length(text_, at_);
            if (length == 0) fail("UTF-8");
            result.append(text_, at_, length);
            at_ += length;
        }
        ++at_;
        return result;
    }

    std::uint32_t escape() {
        switch (const char c = peek(); ++at_, c) {
            case '"':
            case '\\':
            case '/': return static_cast<std::uint32_t>(c);
            case 'b': return '\b';
            case 'f': return '\f';
            case 'n': return '\n';
            case 'r': return '\r';
            case 't': return '\t';
            case 'u': break;
            default: fail("an escape");
        }
        const std::uint32_t high = code_unit();
        if (high < 0xD800 || high > 0xDFFF) return high;
        if (high > 0xDBFF || !take('\\') || !take('u')) fail("a pair of surrogates");
        const std::uint32_t low = code_unit();
        if (low < 0xDC00 || low > 0xDFFF) fail("a pair of surrogates");
        return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    }

    std::uint32_t code_unit() {
        std::uint32_t code = 0;
        for (int i = 0; i < 4; ++i) {
            const int digit = hex_digit(peek());
            if (digit < 0) fail("four hexadecimal digits");
            code = code << 4 | static_cast<std::uint32_t>(digit);
            ++at_;
        }
        return code;
    }

    Number number() {
        const std::size_t start = at_;
        take('-');
        if (!take('0')) digits("a value");
        if (take('.')) digits("a digit");
        if (peek() == 'e' || peek() == 'E') {
            ++at_;
            if (!take('+')) take('-');
            digits("a digit");
        }
        if (at_ - start > kMaxNumberLength) {
            fail("a number of at most " + std::to_string(kMaxNumberLength) + " characters");
        }
        Number result{std::string(text_.substr(start, at_ - start))};
        if (!std::isfinite(result.real())) fail("a number within double precision's range");
        return result;
    }

    void digits(std::string_view expected) {
        if (!is_digit(peek())) fail(expected);
        while (is_digit(peek())) ++at_;
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

void write_string(std::string& out, std::string_view text) {
    constexpr std::string_view kHex = "0123456789abcdef";
    out.push_back('"');
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20) {
            out.append("\\u00");
            out.push_back(kHex[byte >> 4]);
            out.push_back(kHex[byte & 15]);
            continue;
        }
        if (c == '"' || c == '\\') out.push_back('\\');
        out.push_back(c);
    }
    out.push_back('"');
}

void write_value(std::string& out, const Value& value) {
    if (const bool* truth = value.get<bool>()) {
        out.append(*truth ? "true" : "false");
    } else if (const Number* number = value.get<Number>()) {
        out.append(number->text);
    } else if (const std::string* text = value.get<std::string>()) {
        write_string(out, *text);
    } else if (const Array* array = value.get<Array>()) {
        const char* separator = "[";
        for (const Value& item : *array) {
            out.append(separator);
            write_value(out, item);
            separator = ", ";
        }
        out.append(array->empty() ? "[]" : "]");
    } else if (const Object* object = value.get<Object>()) {
        const char* separator = "{";
        for (const auto& [key, member] : *object) {
            out.append(separator);
            write_string(out, key);
            out.append(": ");
            write_value(out, member);
            separator = ", ";
        }
        out.append(object->empty() ? "{}" : "}");
    } else {
        out.append("null");
    }
}

}  // namespace

std::optional<std::int64_t> Number::integer() const noexcept {
    std::int64_t result = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, result);
    if (error != std::errc{} || stop != end) return std::nullopt;
    return result;
}

double Number::real() const noexcept {
    double result = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), result);
    if (error == std::errc{}) return result;
    // Out of range. So short a number is only too small if its exponent says so.
    const bool small = text.find("e-") != text.npos || text.find("E-") != text.npos;
    return small ? 0.0 : std::numeric_limits<double>::infinity();
}

Value parse(std::string_view text) { return Parser(text).document(); }

std::string write(const Value& value) {
    std::string out;
    write_value(out, value);
    return out;
}

std::string shown(const Value& value) {
    std::string text = write(value);
    if (text.size() <= kShownLength) return text;
    std::size_t length = kShownLength;
    while ((static_cast<unsigned char>(text[length]) & 0xC0u) == 0x80u) --length;
    return text.substr(0, length) + "...";
}

Value number(double value) {
    std::array<char, 32> text;
    const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
    return {Number{std::string(text.data(), end)}};
}

Value number(std::int64_t value) { return {Number{std::to_string(value)}}; }

}  // namespace dmpc::json
