// Products of warpgroups. A product reads its operands at any time between its issue and the wait
// for its group, at random the first or the last moment; until that wait its sums are NaN. Each
// thread works out its own sums, by the documented layout, from what descriptors name.
#include "../descriptor.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "machine.hpp"

namespace dmpc::cuda {
namespace emulated {
namespace {

constexpr int kDepth = 16;
using Row = std::array<float, kDepth>;

/// 16 inner dimensions of one row of an operand.
Row row_of(const MatrixPlace& place, std::uint32_t row) {
    Block& block = *machine().current->block;
    Row values;
    for (std::uint32_t k = 0; k < kDepth; ++k) {
        const std::uint32_t at = place.at(row, k);
        if (at + 2 > block.bytes()) {
            throw std::logic_error("a descriptor names memory beyond a block's");
        }
        std::uint16_t bits;
        std::memcpy(&bits, block.base() + at, sizeof bits);
        const std::uint32_t word = std::uint32_t{bits} << 16;
        std::memcpy(&values[k], &word, sizeof word);
    }
    return values;
}

MatrixPlace checked(std::uint64_t descriptor) {
    const MatrixPlace place = decode(descriptor);
    const std::uint32_t period = place.swizzle == Swizzle::none        ? 16
                                 : place.swizzle == Swizzle::bytes_128 ? 1024
                                 : place.swizzle == Swizzle::bytes_64  ? 512
                                                                       : 256;
    if (place.base_offset != 0 || (period > 16 && place.between_rows % period != 0)) {
        throw std::logic_error("a descriptor has rows that its swizzle does not allow");
    }
    return place;
}

float product_of(const Row& a, const Row& b) {
    float sum = 0;
    for (int k = 0; k < kDepth; ++k)
        sum += a[static_cast<std::size_t>(k)] * b[static_cast<std::size_t>(k)];
    return sum;
}

void execute(Thread& own, const GroupProduct& product) {
    const MatrixPlace left = checked(product.left), right = checked(product.right);
    const int lane = own.index % kLanes, g = lane / 4, t = lane % 4;
    const int first = own.index / kLanes % kGroupWarps * 16 + g;
    const Row rows[2] = {row_of(left, static_cast<std::uint32_t>(first)),
                         row_of(left, static_cast<std::uint32_t>(first + 8))};
    std::vector<float>& sums = own.sums.at(product.sums);
    for (int column = 0; column < product.columns; column += 8) {
        for (int i = 0; i < 2; ++i) {
            const Row other = row_of(right, static_cast<std::uint32_t>(column + 2 * t + i));
            for (int half = 0; half < 2; ++half) {
                float& sum = sums[static_cast<std::size_t>(column / 2 + 2 * half + i)];
                sum += product_of(rows[half], other);
            }
        }
    }
}

void execute_all(Thread& own, std::vector<GroupProduct>& group) {
    for (const GroupProduct& product : group) execute(own, product);
    group.clear();
}

}  // namespace
}  // namespace emulated

namespace device {

using namespace emulated;

std::uint32_t shared_address(const void* pointer) {
    Block& block = *machine().current->block;
    const auto offset = static_cast<const std::uint8_t*>(pointer) - block.base();
    if (offset < 0 || static_cast<std::size_t>(offset) >= block.bytes()) {
        throw std::logic_error("an address lies outside of shared memory");
    }
    return static_cast<std::uint32_t>(offset);
}

void fence_products() { machine().current->fenced = true; }

void issue_product(float* sums, int columns, std::uint64_t left, std::uint64_t right) {
    Thread& own = *machine().current;
    if (!own.fenced) throw std::logic_error("a product without a fence before it");
    const auto count = static_cast<std::size_t>(columns / 2);
    own.sums.try_emplace(sums, sums, sums + count);
    std::fill_n(sums, count, std::numeric_limits<float>::quiet_NaN());
    own.products.back().push_back({sums, columns, left, right});
    if (machine().random() % 2 == 0) {
        for (auto& group : own.products) execute_all(own, group);
    }
    // All lanes of a warp issue together, with the same operands.
    const auto lane = static_cast<std::size_t>(own.index % kLanes);
    exchange(
        [&](Exchange& e) {
            e.in[lane] = {static_cast<std::uint32_t>(left), static_cast<std::uint32_t>(left >> 32),
                          static_cast<std::uint32_t>(right),
                          static_cast<std::uint32_t>(right >> 32),
                          static_cast<std::uint32_t>(columns)};
        },
        [](Exchange& e) {
            for (const auto& in : e.in) {
                if (in != e.in[0]) throw std::logic_error("lanes of a warp issue other products");
            }
        });
}

void commit_products() { machine().current->products.emplace_back(); }

void wait_products_until(int pending) {
    Thread& own = *machine().current;
    while (static_cast<int>(own.products.size()) - 1 > pending) {
        execute_all(own, own.products.front());
        own.products.pop_front();
    }
    // The instruction is one of the whole warp: what a lane does next, such as giving a stage back,
    // comes after the products of all lanes.
    sync_warp();
    if (own.products.size() > 1 || !own.products.back().empty()) return;
    for (const auto& [registers, sums] : own.sums) std::copy(sums.begin(), sums.end(), registers);
    own.sums.clear();
    own.fenced = false;
}

void store_tiles_transposed(bf16* row, const std::uint32_t (&tiles)[4]) {
    if (shared_address(row) % 16 != 0) {
        throw std::logic_error("rows of tiles must be aligned to 16 bytes");
    }
    const auto own = static_cast<std::size_t>(machine().current->index % kLanes);
    exchange(
        [&](Exchange& e) {
            e.rows[own] = row;
            std::copy_n(tiles, 4, e.in[own].begin());
        },
        [](Exchange& e) {
            for (std::size_t lane = 0; lane < kLanes; ++lane) {
                const std::size_t g = lane / 4, t = lane % 4;
                for (std::size_t tile = 0; tile < 4; ++tile) {
                    for (std::size_t i = 0; i < 2; ++i) {
                        bf16* to = const_cast<bf16*>(e.rows[8 * tile + 2 * t + i]);
                        to[g].bits = static_cast<std::uint16_t>(e.in[lane][tile] >> (16 * i));
                    }
                }
            }
        });
}

}  // namespace device
}  // namespace dmpc::cuda
