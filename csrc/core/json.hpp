// Strict JSON (RFC 8259) for text that nobody vouches for: duplicate keys, deep nesting, long
// numbers, numbers beyond double precision's range, lone surrogates and invalid UTF-8 are refused.
// dmpc_fast/strict_json.py accepts exactly the same texts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace dmpc::json {

inline constexpr int kMaxDepth = 32;
inline constexpr std::size_t kMaxNumberLength = 64;

/// The message says what was expected and at which byte.
class SyntaxError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

struct Value;
using Array = std::vector<Value>;
using Object = std::map<std::string, Value, std::less<>>;

/// A number as it was written, so that nothing is lost on the way.
struct Number {
    std::string text;

    /// The value if it is written without fraction and exponent and fits.
    std::optional<std::int64_t> integer() const noexcept;
    double real() const noexcept;
};

struct Value {
    std::variant<std::nullptr_t, bool, Number, std::string, Array, Object> is = nullptr;

    template <class T>
    const T* get() const noexcept {
        return std::get_if<T>(&is);
    }
    bool null() const noexcept { return get<std::nullptr_t>() != nullptr; }
};

/// Throws SyntaxError.
Value parse(std::string_view text);

/// The inverse of `parse`; keys come in order of their bytes.
std::string write(const Value& value);

/// What a reader of an error message sees of a value: its text, shortened.
std::string shown(const Value& value);

Value number(double value);
Value number(std::int64_t value);

}  // namespace dmpc::json
