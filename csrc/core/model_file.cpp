#include "dmpc/model_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <functional>
#include <system_error>
#include <utility>

#include "half.hpp"
#include "json.hpp"

namespace dmpc {
namespace {

static_assert(std::endian::native == std::endian::little, "model files are little-endian");

constexpr std::uint64_t kPrefixBytes = 8;  // the header's length
// A header is the description, whose quotes may be escaped, and an entry for every tensor.
constexpr std::uint64_t kMaxTensors =
    8 + (kMaxMembers + 2) * (15 + 10 * kMaxLayers) + 2 * (kMaxLayers + 1);
constexpr std::uint64_t kMaxEntryBytes = 192;
constexpr std::uint64_t kMaxHeaderBytes = kMaxSpecBytes + kMaxTensors * kMaxEntryBytes;

/// Where one tensor lies in the data that follows the header.
struct Entry {
    bool half = false;
    Shape shape;
    std::uint64_t begin = 0, end = 0;
};

struct Header {
    ModelSpec spec;
    std::map<std::string, Entry, std::less<>> entries;
};

/// Copies content from an offset on; the range has been checked to lie inside.
using Read = std::function<void(std::uint64_t offset, std::span<std::byte> to)>;

std::string in_quotes(std::string_view text) { return "'" + std::string(text.substr(0, 80)) + "'"; }

/// Elements of a tensor of `spec`, which is not yet known to be of a sane size.
std::int64_t count_of(const std::string& name, const Shape& shape) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) {
        if (__builtin_mul_overflow(count, size, &count) || count > kMaxParameters) {
            throw ModelFileError("tensor " + in_quotes(name) + " has more than " +
                                 std::to_string(kMaxParameters) + " elements");
        }
    }
    return count;
}

std::string text_of(const Shape& shape) {
    std::string text = "[";
    for (const std::int64_t size : shape) {
        text += (text.size() > 1 ? ", " : "") + std::to_string(size);
    }
    return text + "]";
}

/// Checks one tensor's entry in the header against the shape that the description asks for.
Entry read_entry(const std::string& name, const json::Value& value, const Shape& expected) {
    const std::string tensor = "tensor " + in_quotes(name);
    const auto* members = value.get<json::Object>();
    if (!members || members->size() != 3 || !members->contains("dtype") ||
        !members->contains("shape") || !members->contains("data_offsets")) {
        throw ModelFileError(tensor + " must have exactly dtype, shape and data_offsets");
    }
    const json::Value& dtype = members->find("dtype")->second;
    const json::Value& shape = members->find("shape")->second;
    const json::Value& offsets = members->find("data_offsets")->second;

    Entry entry;
    const auto* type = dtype.get<std::string>();
    if (!type || (*type != "F32" && *type != "F16")) {
        throw ModelFileError(tensor + " must have dtype F32 or F16, got " + json::shown(dtype));
    }
    entry.half = *type == "F16";

    const auto integers = [](const json::Value& list) {
        Shape result;
        const auto* items = list.get<json::Array>();
        if (!items) return std::optional<Shape>();
        for (const json::Value& item : *items) {
            const auto* number = item.get<json::Number>();
            const auto integer = number ? number->integer() : std::nullopt;
            if (!integer || *integer < 0) return std::optional<Shape>();
            result.push_back(*integer);
        }
        return std::optional(result);
    };
    if (const auto sizes = integers(shape); !sizes || *sizes != expected) {
        throw ModelFileError(tensor + " must have shape " + text_of(expected) + ", got " +
                             json::shown(shape));
    }
    entry.shape = expected;
    const auto range = integers(offsets);
    const std::int64_t bytes = count_of(name, expected) * (entry.half ? 2 : 4);
    if (!range || range->size() != 2 || (*range)[1] < (*range)[0] ||
        (*range)[1] - (*range)[0] != bytes) {
        throw ModelFileError(tensor + " must have data_offsets that span " + std::to_string(bytes) +
                             " bytes, got " + json::shown(offsets));
    }
    entry.begin = static_cast<std::uint64_t>((*range)[0]);
    entry.end = static_cast<std::uint64_t>((*range)[1]);
    return entry;
}

ModelSpec read_metadata(const json::Object& header) {
    const auto found = header.find("__metadata__");
    const auto* metadata = found == header.end() ? nullptr : found->second.get<json::Object>();
    const auto text = metadata ? metadata->find("dmpc") : json::Object::const_iterator{};
    if (!metadata || metadata->size() != 1 || text == metadata->end() ||
        !text->second.get<std::string>()) {
        throw ModelFileError("__metadata__ must hold the text 'dmpc' and nothing else");
    }
    return ModelSpec::from_json(*text->second.get<std::string>());
}

/// The tensors must follow each other without gap or overlap and end with the file.
void check_tiling(const Header& header, std::uint64_t data_bytes) {
    std::vector<std::pair<const Entry*, const std::string*>> order;
    for (const auto& [name, entry] : header.entries) order.emplace_back(&entry, &name);
    std::sort(order.begin(), order.end(),
              [](const auto& a, const auto& b) { return a.first->begin < b.first->begin; });
    std::uint64_t end = 0;
    for (const auto& [entry, name] : order) {
        if (entry->begin != end) {
            throw ModelFileError("tensor " + in_quotes(*name) + " must start at byte " +
                                 std::to_string(end) + " of the data, got " +
                                 std::to_string(entry->begin));
        }
        end = entry->end;
    }
    if (end != data_bytes) {
        throw ModelFileError("the tensors need " + std::to_string(end) +
                             " bytes of data, the file has " + std::to_string(data_bytes));
    }
}

Header read_header(std::string_view text, std::uint64_t data_bytes) {
    json::Value root;
    try {
        if (!text.starts_with('{')) throw json::SyntaxError("expected '{' at byte 0");
        root = json::parse(text);
    } catch (const json::SyntaxError& error) {
        throw ModelFileError(std::string("the header is not valid JSON: ") + error.what());
    }
    const auto& members = *root.get<json::Object>();
    Header header;
    header.spec = read_metadata(members);
    const TensorShapes shapes = header.spec.tensor_shapes();
    std::int64_t total = 0;
    for (const auto& [name, shape] : shapes) {
        const auto found = members.find(name);
        if (found == members.end())
            throw ModelFileError("tensor " + in_quotes(name) + " is missing");
        header.entries.emplace(name, read_entry(name, found->second, shape));
        total += count_of(name, shape);
        if (total > kMaxParameters) {
            throw ModelFileError("the model has more than " + std::to_string(kMaxParameters) +
                                 " numbers");
        }
    }
    for (const auto& [name, value] : members) {
        if (name != "__metadata__" && !shapes.contains(name)) {
            throw ModelFileError("tensor " + in_quotes(name) + " is unknown");
        }
    }
    check_tiling(header, data_bytes);
    return header;
}

Tensor read_tensor(const Entry& entry, std::uint64_t data_start, const Read& read) {
    Tensor tensor{entry.shape, {}};
    const std::uint64_t offset = data_start + entry.begin;
    if (entry.half) {
        std::vector<std::uint16_t> halves((entry.end - entry.begin) / 2);
        read(offset, std::as_writable_bytes(std::span(halves)));
        tensor.values.resize(halves.size());
        std::transform(halves.begin(), halves.end(), tensor.values.begin(), float_of_half);
    } else {
        tensor.values.resize((entry.end - entry.begin) / 4);
        read(offset, std::as_writable_bytes(std::span(tensor.values)));
    }
    return tensor;
}

void check_values(const std::string& name, const Tensor& tensor) {
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(tensor.values.begin(), tensor.values.end(), finite)) {
        throw ModelFileError("tensor " + in_quotes(name) + " holds NaN or infinity");
    }
    const bool is_scale = name.starts_with("normalizer.") && name.ends_with(".scale");
    const auto positive = [](float value) { return value > 0; };
    if (is_scale && !std::all_of(tensor.values.begin(), tensor.values.end(), positive)) {
        throw ModelFileError("tensor " + in_quotes(name) + " must be positive");
    }
}

Model load(std::uint64_t file_bytes, const Read& read) {
    const auto truncated = [&] {
        return ModelFileError("the file is truncated: its " + std::to_string(file_bytes) +
                              " bytes cannot hold its header");
    };
    if (file_bytes < kPrefixBytes) throw truncated();
    std::uint64_t header_bytes = 0;
    read(0, std::as_writable_bytes(std::span(&header_bytes, 1)));
    if (header_bytes > kMaxHeaderBytes) {
        throw ModelFileError("the header must be at most " + std::to_string(kMaxHeaderBytes) +
                             " bytes long, got " + std::to_string(header_bytes));
    }
    if (header_bytes > file_bytes - kPrefixBytes) throw truncated();
    std::string text(header_bytes, '\0');
    read(kPrefixBytes, std::as_writable_bytes(std::span(text)));

    const std::uint64_t data_start = kPrefixBytes + header_bytes;
    Header header = read_header(text, file_bytes - data_start);
    Model model;
    for (const auto& [name, entry] : header.entries) {
        Tensor tensor = read_tensor(entry, data_start, read);
        check_values(name, tensor);
        model.tensors.emplace(name, std::move(tensor));
    }
    model.spec = std::move(header.spec);
    return model;
}

/// A regular file, open for reading.
class File {
public:
    explicit File(const std::filesystem::path& path) : path_(path) {
        descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (descriptor_ < 0) fail(errno);
    }
    ~File() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    std::uint64_t size() const {
        struct stat status{};
        if (::fstat(descriptor_, &status) != 0) fail(errno);
        if (S_ISDIR(status.st_mode)) fail(EISDIR);
        if (!S_ISREG(status.st_mode)) throw ModelFileError("not a regular file");
        return static_cast<std::uint64_t>(status.st_size);
    }

    void read(std::uint64_t offset, std::span<std::byte> to) const {
        while (!to.empty()) {
            const ssize_t count =
                ::pread(descriptor_, to.data(), to.size(), static_cast<off_t>(offset));
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) fail(errno);
            if (count == 0) throw ModelFileError("the file became shorter while it was read");
            offset += static_cast<std::uint64_t>(count);
            to = to.subspan(static_cast<std::size_t>(count));
        }
    }

private:
    [[noreturn]] void fail(int error) const {
        throw std::system_error(error, std::generic_category(), path_.string());
    }

    std::filesystem::path path_;
    int descriptor_;
};

}  // namespace

const Tensor& Model::tensor(std::string_view name) const {
    const auto found = tensors.find(name);
    if (found == tensors.end()) throw std::out_of_range("no tensor is called " + in_quotes(name));
    return found->second;
}

Model load_model(const std::filesystem::path& path) {
    const File file(path);
    try {
        return load(file.size(),
                    [&](std::uint64_t offset, std::span<std::byte> to) { file.read(offset, to); });
    } catch (const ModelFileError& error) {
        throw ModelFileError(path.string() + ": " + error.what());
    }
}

Model load_model(std::span<const std::byte> content) {
    return load(content.size(), [&](std::uint64_t offset, std::span<std::byte> to) {
        std::memcpy(to.data(), content.data() + offset, to.size());
    });
}

}  // namespace dmpc
