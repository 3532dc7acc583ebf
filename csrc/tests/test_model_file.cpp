#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include "check.hpp"
#include "core/half.hpp"
#include "dmpc/model_file.hpp"
#include "tiny_model.hpp"

namespace {

using namespace dmpc;
using test::contains;
using test::error_of;
using test::FileParts;
using Bytes = std::vector<std::byte>;

std::string refusal(const Bytes& file) {
    return error_of<ModelFileError>([&] { load_model(file); });
}

/// `text` with the first `from` replaced; a header's changed length is taken along by `joined`.
FileParts edited(FileParts parts, const std::string& from, const std::string& to) {
    const std::size_t at = parts.header.find(from);
    CHECK(at != std::string::npos);
    parts.header.replace(at, from.size(), to);
    return parts;
}

void a_description_survives_its_json() {
    const ModelSpec spec = test::tiny_spec();
    spec.validate();
    const ModelSpec again = ModelSpec::from_json(spec.to_json());
    CHECK(again == spec);
    CHECK(again.environment.id == spec.environment.id);
}

void a_file_is_read_as_it_was_written(const FileParts& parts) {
    const Bytes file = parts.joined();
    const Model model = load_model(file);
    CHECK(model.spec == test::tiny_spec());
    const TensorShapes shapes = model.spec.tensor_shapes();
    CHECK(model.tensors.size() == shapes.size());
    for (const auto& [name, shape] : shapes) CHECK(model.tensor(name).shape == shape);
    // The first tensor in order of names lies first: its values are the data's first bytes.
    const Tensor& first = model.tensor("dynamics.0.blocks.0.mlp_in.bias");
    CHECK(std::memcmp(first.values.data(), parts.data.data(), 4 * first.values.size()) == 0);
    CHECK(!error_of<std::out_of_range>([&] { static_cast<void>(model.tensor("x")); }).empty());
}

void files_on_disk(const FileParts& parts) {
    const auto path = std::filesystem::temp_directory_path() /
                      ("dmpc_test_model_file_" + std::to_string(::getpid()));
    const Bytes file = parts.joined();
    const auto write = [&](std::size_t size) {
        std::ofstream out(path, std::ios::binary);
        out.write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(size));
    };
    write(file.size());
    CHECK(load_model(path).spec == load_model(file).spec);
    write(file.size() - 1);
    const std::string error = error_of<ModelFileError>([&] { load_model(path); });
    CHECK(contains(error, path.string()) && contains(error, "bytes of data"));
    std::filesystem::remove(path);
    CHECK(!error_of<std::system_error>([&] { load_model(path); }).empty());
    CHECK(!error_of<std::system_error>([] { load_model("/"); }).empty());
}

void wrong_headers_are_named(const FileParts& parts) {
    struct Case {
        std::string from, to, message;
    };
    const std::string tensor = "\"dynamics.0.positions\": {\"data_offsets\": [";
    const std::vector<Case> cases = {
        {tensor, "\"dynamics.0.position\": {\"data_offsets\": [",
         "'dynamics.0.positions' is missing"},
        {tensor, "\"x\": {}, " + tensor, "'x' is unknown"},
        {tensor, tensor + "1", "'dynamics.0.positions' must have data_offsets"},
        {"\"dtype\": \"F32\"", "\"dtype\": \"F64\"", "must have dtype F32 or F16, got \"F64\""},
        {"\"shape\": [7]", "\"shape\": [8]", "must have shape [7], got [8]"},
        {"\"shape\": [7]", "\"shape\": [7.0]", "must have shape [7], got [7.0]"},
        {"\"shape\": [7]", "\"shape\": [7, 1]", "must have shape [7]"},
        {"\"shape\": [7]", "\"shape\": 7", "must have shape [7]"},
        {"{\"__metadata__\"", " {\"__metadata__\"", "expected '{'"},
        {"\"__metadata__\"", "\"__metadata\"", "__metadata__ must hold the text 'dmpc'"},
        {"\\\"horizon\\\": 4", "\\\"horizon\\\": 5", "not a multiple of patch"},
        {"\\\"horizon\\\": 4", "\\\"horizon\\\": 4, \\\"more\\\": 1", "unknown key 'more'"},
        {"\\\"horizon\\\": 4, ", "", "lacks the key 'horizon'"},
        {"\\\"history\\\": 2", "\\\"history\\\": \\\"2\\\"", "history must be an integer"},
        {"\\\"history\\\": 2", "\\\"history\\\": 1e1", "history must be an integer"},
        {"\\\"history\\\": 2", "\\\"history\\\": 99999999999999999999",
         "history must be an integer"},
        {"\\\"history\\\": 2", "\\\"history\\\": 4096",
         "history must be an integer from 1 to 1024"},
        {"\\\"discount\\\": 0.97", "\\\"discount\\\": 1.01", "discount must be a finite number"},
        {"\\\"discount\\\": 0.97", "\\\"discount\\\": 1e999", "not valid JSON"},
        {"[-0.5, null]", "[0.5, null]", "action bound 0 must have low < high"},
        {"[-0.5, null]", "[\\\"0.5\\\", null]", "action_low must be a number"},
        {"[-0.5, null]", "[null]", "action_low must have 2 entries"},
        {"[1.5, 0.75]", "[0.75, 1.5]", "must fall strictly"},
        {"[1.5, 0.75]", "[]", "must hold 1 to 255 angles"},
        {"\\\"bf16\\\"", "\\\"fp8\\\"", "recommended.dtype"},
        {"\\\"num_samples\\\": 64", "\\\"num_samples\\\": 0", "recommended.num_samples"},
        {"\\\"num_elites\\\": 1", "\\\"num_elites\\\": 257", "recommended.num_elites"},
        {"\\\"layers\\\": 2", "\\\"layers\\\": 0", "policy.layers must be an integer from 1"},
        {"\\\"layers\\\": 2", "\\\"layers\\\": 3", "'policy.hidden.2."},
        {"\\\"layers\\\": 2", "\\\"layers\\\": 2, \\\"more\\\": 1", "unknown key 'more'"},
        {"\\\"layers\\\": 2, ", "", "lacks the key 'layers'"},
        {"\\\"width\\\": 6", "\\\"width\\\": 65537", "policy.width"},
        {"\\\"policy\\\": {", "\\\"policies\\\": {", "unknown key 'policies'"},
        {"\"policy.out.bias\"", "\"policy.out.bia\"", "'policy.out.bias' is missing"},
        {"\\\"format_version\\\": 1", "\\\"format_version\\\": 2",
         "format_version 2 is not supported: this package reads version 1"},
    };
    for (const Case& c : cases) {
        const std::string message = refusal(edited(parts, c.from, c.to).joined());
        if (!contains(message, c.message)) {
            std::fprintf(stderr, "expected '%s', got '%s'\n", c.message.c_str(), message.c_str());
        }
        CHECK(contains(message, c.message));
    }
}

void wrong_values_are_named(const FileParts& parts) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const auto with_first = [&](float value) {
        FileParts changed = parts;
        std::memcpy(changed.data.data(), &value, sizeof value);
        return refusal(changed.joined());
    };
    CHECK(contains(with_first(std::nanf("")), "'dynamics.0.blocks.0.mlp_in.bias' holds NaN"));
    CHECK(contains(with_first(-kInfinity), "holds NaN or infinity"));
    CHECK(with_first(-1.0f).empty());

    const std::string entry = "\"normalizer.state.scale\": {\"data_offsets\": [";
    const std::size_t at = parts.header.find(entry);
    CHECK(at != std::string::npos);
    const std::size_t begin = std::stoul(parts.header.substr(at + entry.size()));
    FileParts changed = parts;
    std::memset(changed.data.data() + begin, 0, 4);
    CHECK(contains(refusal(changed.joined()), "'normalizer.state.scale' must be positive"));
}

void lengths_are_checked(const FileParts& parts) {
    const Bytes file = parts.joined();
    for (std::size_t size = 0; size < file.size(); size += 1 + size / 16) {
        CHECK(!refusal(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)))
                   .empty());
    }
    Bytes longer = file;
    longer.push_back(std::byte{0});
    CHECK(!refusal(longer).empty());
    for (int bit = 0; bit < 64; ++bit) {
        Bytes changed = file;
        changed[static_cast<std::size_t>(bit / 8)] ^= static_cast<std::byte>(1 << bit % 8);
        CHECK(!refusal(changed).empty());
    }
}

/// Nothing but a ModelFileError may come out, and the sanitizers must stay silent.
void mutations_are_refused_or_loaded(const FileParts& parts, std::mt19937_64& random) {
    const Bytes file = parts.joined();
    const std::size_t header_end = 8 + parts.header.size();
    const std::string alphabet = "0123456789[]{}\",:.-+eE\\utrfalsn \xC3\x80";
    int loaded = 0;
    for (int round = 0; round < 4000; ++round) {
        Bytes changed = file;
        const int edits = 1 + static_cast<int>(random() % 3);
        for (int i = 0; i < edits; ++i) {
            const std::size_t limit = random() % 4 == 0 ? changed.size() : header_end;
            const std::size_t at = random() % std::min(limit, changed.size());
            const auto where = changed.begin() + static_cast<std::ptrdiff_t>(at);
            const auto symbol = static_cast<std::byte>(alphabet[random() % alphabet.size()]);
            switch (random() % 6) {
                case 0: *where = static_cast<std::byte>(random()); break;
                case 1: *where ^= static_cast<std::byte>(1u << random() % 8); break;
                case 2: *where = symbol; break;
                case 3: changed.insert(where, symbol); break;
                case 4: changed.erase(where); break;
                default: changed.resize(at + 1); break;
            }
        }
        if (random() % 2 == 0 && changed.size() > 8) {  // let edits of another length get further
            const std::uint64_t length =
                header_end - 8 + (changed.size() - file.size());  // wraps where shorter
            std::memcpy(changed.data(), &length, sizeof length);
        }
        try {
            static_cast<void>(load_model(changed));
            ++loaded;
        } catch (const ModelFileError&) {
        }
    }
    CHECK(loaded > 0);  // flips inside weights: the fuzz reaches the end of the reader
}

void halves_are_exact() {
    CHECK(float_of_half(0x3C00) == 1.0f);
    CHECK(float_of_half(0xC000) == -2.0f);
    CHECK(float_of_half(0x7BFF) == 65504.0f);
    CHECK(float_of_half(0x0001) == 0x1p-24f);
    CHECK(float_of_half(0x03FF) == 1023 * 0x1p-24f);
    CHECK(float_of_half(0x0400) == 0x1p-14f);
    CHECK(std::isinf(float_of_half(0x7C00)) && std::isnan(float_of_half(0x7C01)));
    CHECK(std::signbit(float_of_half(0x8000)) && float_of_half(0x8000) == 0.0f);
}

}  // namespace

int main() {
    std::mt19937_64 random(20261123);
    const FileParts parts = test::tiny_file(test::tiny_spec(), random);
    a_description_survives_its_json();
    a_file_is_read_as_it_was_written(parts);
    files_on_disk(parts);
    wrong_headers_are_named(parts);
    wrong_values_are_named(parts);
    lengths_are_checked(parts);
    mutations_are_refused_or_loaded(parts, random);
    halves_are_exact();
}
