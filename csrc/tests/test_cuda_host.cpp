// What of the CUDA kernels is decided on the host: packing, shares, shared memory, the cut of a
// plan.
#include <cmath>
#include <set>

#include "check.hpp"
#include "cuda/descriptor.hpp"
#include "cuda/packing.hpp"
#include "cuda/plan_choice.hpp"

using namespace dmpc::cuda;

namespace {

void every_element_has_its_own_place() {
    for (const Product p :
         {Product::fma_float32, Product::mma_tf32, Product::mma_bf16, Product::wgmma_bf16}) {
        const PackedShape shape{48, 32};
        std::set<std::int64_t> places;
        for (int k = 0; k < shape.inner; ++k) {
            for (int n = 0; n < shape.columns; ++n) {
                const std::int64_t place = packed_place(shape, p, k, n);
                CHECK(place >= 0 && place < shape.bytes(p));
                CHECK(place % element_bytes(p) == 0);
                places.insert(place);
            }
        }
        CHECK(static_cast<int>(places.size()) == shape.inner * shape.columns);
        CHECK(shape.bytes(p) == std::int64_t{48} * 32 * element_bytes(p));
    }
}

void a_lane_finds_its_fragment_in_16_bytes() {
    // Of mma.m16n8k16: lane 4 g + t multiplies with rows 2 t, 2 t + 1, then 8 further, of column g.
    const PackedShape shape{16, 16};
    for (int lane = 0; lane < kLanes; ++lane) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 8; ++i) {
            const int column = g + i / 4 * 8, k = 2 * t + i % 2 + i / 2 % 2 * 8;
            CHECK(packed_place(shape, Product::mma_bf16, k, column) == lane * 16 + i * 2);
        }
    }
}

void tf32_is_rounded_and_lies_as_lanes_multiply() {
    // Of mma.m16n8k8: lane 4 g + t multiplies with rows t and t + 4 of column g.
    const PackedShape shape{16, 16};
    for (int lane = 0; lane < kLanes; ++lane) {
        const int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; ++i) {
            const int column = g + i / 2 * 8, k = t + i % 2 * 4;
            CHECK(packed_place(shape, Product::mma_tf32, k, column) == lane * 16 + i * 4);
        }
    }
    CHECK(round_to_tf32(1.0f + 0x1p-11f) == 1.0f + 0x1p-10f);
    CHECK(round_to_tf32(-1.0f - 0x1p-12f) == -1.0f);
}

void panels_are_what_descriptors_name() {
    // 8 columns of all inner dimensions lie together, so that a bulk copy takes any part of them.
    const PackedShape shape{48, 32};
    for (int n = 0; n < shape.columns; ++n) {
        for (int k = 0; k < shape.inner; ++k) {
            const std::int64_t panel = n / 8 * (shape.inner * 16);
            const MatrixPlace place = decode(matrix_descriptor(0, kCoreBytes, shape.inner * 16));
            CHECK(packed_place(shape, Product::wgmma_bf16, k, n) ==
                  panel + k / 8 * kCoreBytes + n % 8 * 16 + k % 8 * 2);
            if (k >= kTile) continue;
            CHECK(packed_place(shape, Product::wgmma_bf16, k, n) ==
                  place.at(static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(k)));
        }
    }
}

void swizzles_exchange_what_lies_in_a_panel() {
    // Of 64 rows by 16 inner dimensions every element has its own place, whatever the swizzle.
    for (const std::uint64_t swizzle : {1, 2, 3}) {
        const std::uint32_t bytes = 256u >> swizzle;
        const MatrixPlace place =
            decode(matrix_descriptor(0, 16, static_cast<int>(8 * bytes)) | swizzle << 62);
        std::set<std::uint32_t> places;
        for (std::uint32_t row = 0; row < 64; ++row) {
            for (std::uint32_t k = 0; k < 16; ++k) {
                CHECK(place.at(row, k) / bytes == row);
                places.insert(place.at(row, k));
            }
        }
        CHECK(places.size() == 64 * 16);
        CHECK(place.at(0, 8) == 16);
        // The rows whose panels are exchanged: every one of 128 bytes, every second of 64, ...
        CHECK(place.at(128 / bytes, 0) == 128 + 16);
    }
}

void warpgroups_take_all_rows_in_few_passes() {
    for (int tiles = 1; tiles <= 40; ++tiles) {
        int done = 0, count = 0;
        while (done < tiles) {
            done += group_tiles(tiles - done);
            ++count;
        }
        CHECK(count == passes(Product::wgmma_bf16, tiles));
        CHECK(done <= operand_tiles(Product::wgmma_bf16, tiles));
        CHECK(done < tiles + 2);
        CHECK(rows_of_time(Product::wgmma_bf16, tiles * kTile) >= tiles * kTile);
    }
    CHECK(operand_tiles(Product::mma_bf16, 3) == 3);
    CHECK(bf16_product(9, 0) == Product::wgmma_bf16);
    CHECK(bf16_product(8, 0) == Product::mma_bf16);
    CHECK(bf16_product(10, 0) == Product::mma_bf16);
}

void gaps_are_zero_and_heads_lie_together() {
    // Two heads of 3, width 5: outputs q0 q1 k0 k1 v0 v1 become q0 k0 v0 q1 k1 v1, padded to 16.
    std::vector<float> values(5 * 18);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1);
    const MatrixSource source{values, 5, 18, 5, 16, 3, 16, 2};
    const PackedShape shape{16, 96};
    std::vector<std::uint8_t> packed(static_cast<std::size_t>(shape.bytes(Product::fma_float32)));
    pack_matrix(source, shape, Product::fma_float32, packed.data());
    int found = 0;
    for (int n = 0; n < shape.columns; ++n) {
        const int head = n / 48, which = n / 16 % 3, inside = n % 16;
        for (int k = 0; k < shape.inner; ++k) {
            float value;
            std::memcpy(&value, packed.data() + packed_place(shape, Product::fma_float32, k, n), 4);
            const bool exists = inside < 3 && k < 5;
            const int output = which * 6 + head * 3 + inside;
            CHECK(value == (exists ? static_cast<float>(output * 5 + k + 1) : 0.0f));
            found += exists ? 1 : 0;
        }
    }
    CHECK(found == 5 * 18);
}

void spans_hold_every_key_that_a_row_may_see() {
    for (int tokens = 1; tokens <= 40; ++tokens) {
        for (int candidates = 1; candidates <= 5; ++candidates) {
            const int rows = tokens * candidates;
            for (int row = 0; row < rows; row += kTile) {
                const Span span = key_span(row, rows, tokens);
                CHECK(span.first % kTile == 0 && span.count % kTile == 0);
                CHECK(span.first + span.count <= round_up(rows, kTile));
                for (int r = row; r < std::min(row + kTile, rows); ++r) {
                    CHECK(r / tokens * tokens >= span.first);
                    CHECK(r / tokens * tokens + tokens <= span.first + span.count);
                }
            }
        }
    }
}

void shares_cover_everything_once() {
    for (int count = 0; count < 20; ++count) {
        for (int ranks = 1; ranks <= kMaxCluster; ranks *= 2) {
            int next = 0;
            for (int rank = 0; rank < ranks; ++rank) {
                CHECK(share(count, rank, ranks).first == next);
                next = share(count, rank, ranks).last;
            }
            CHECK(next == count);
        }
    }
}

PlanSizes paper(int candidates, Product product) {
    const LayerShape layer{256, 256, 8, 128, 2048};
    const NetworkSizes network{layer, 5, 32, 1};
    return {{network, network, network}, {candidates}, 1, product};
}

Product product_of(const DeviceLimits& device) {
    return device.max_cluster > 1 ? Product::wgmma_bf16 : Product::mma_bf16;
}

void choices_fit_and_fill_the_chip() {
    const DeviceLimits hopper{132, 227 * 1024, kMaxCluster};
    const DeviceLimits ampere{108, 163 * 1024, 1};
    for (const int count : {1, 7, 64, 256, 1024}) {
        for (const DeviceLimits& device : {hopper, ampere}) {
            const auto choice = choose_plan(paper(count, product_of(device)), device);
            CHECK(choice.has_value());
            CHECK(choice->shared.total <= device.shared_bytes);
            const Cut& cut = choice->cut;
            CHECK(cut.sets * cut.splits <= kMaxCluster);
            CHECK(cut.apart == (cut.splits > 1 && device.max_cluster == 1));
            CHECK(!cut.apart || choice->waves == 1);
            CHECK(cut.sets == 1 || product_of(device) == Product::wgmma_bf16);
            CHECK(choice->tiles % cut.sets == 0);
            CHECK(choice->tiles * cut.candidates >= count);
            CHECK((choice->tiles - cut.sets) * cut.candidates < count);
            CHECK(choice->predicted_s >= choice->tensor_s);
        }
    }
    // Few candidates: clusters share their heads and hidden columns, so that most of the chip
    // works.
    // A chip whose groups of processors hold fewer clusters than it has room for takes another cut.
    DeviceLimits odd = hopper;
    odd.clusters = {0, 66, 32, 12};
    const auto other = choose_plan(paper(64, Product::wgmma_bf16), odd);
    CHECK(other->waves == 1 || other->cut.sets * other->cut.splits < kMaxCluster);
    // The same by global memory where there are no clusters.
    const auto fewer = choose_plan(paper(8, Product::mma_bf16), ampere);
    CHECK(fewer->cut.apart && fewer->fill > 0.5);
    const auto few = choose_plan(paper(64, Product::wgmma_bf16), hopper);
    CHECK(few->cut.splits > 1);
    CHECK(few->fill > 0.8);
    // Sets that share weights halve what L2 is read for, at the least.
    const PlanSizes sizes = paper(64, Product::wgmma_bf16);
    const Cut alone{few->cut.candidates, 1, few->cut.splits};
    CHECK(few->cut.sets > 1);
    CHECK(few->l2_s * 2 <= predict(sizes, hopper, alone, few->shared).l2_s);
    CHECK(!choose_plan(paper(64, Product::wgmma_bf16), DeviceLimits{132, 32 * 1024, kMaxCluster})
               .has_value());
}

/// The milliseconds that docs/gpu.md predicts, with sets that share weights and without.
void predictions_are_those_of_the_documentation() {
    struct Row {
        LayerShape layer;
        int layers, candidates, proposal, dynamics;
        double alone, shared;
    };
    const LayerShape paper_layer{256, 256, 8, 128, 2048}, small_layer{128, 128, 4, 32, 256};
    const DeviceLimits hopper{132, 227 * 1024, kMaxCluster};
    for (const Row& row :
         {Row{paper_layer, 5, 64, 1, 1, 0.45, 0.28}, Row{paper_layer, 5, 64, 32, 10, 6.5, 4.0},
          Row{paper_layer, 5, 256, 1, 1, 1.64, 0.89}, Row{paper_layer, 5, 1024, 1, 1, 6.6, 3.6},
          Row{small_layer, 3, 64, 1, 1, 0.053, 0.053}}) {
        const auto network = [&](int evaluations) {
            return NetworkSizes{row.layer, row.layers, 32, evaluations};
        };
        const PlanSizes sizes{{network(row.proposal), network(row.dynamics), network(1)},
                              {row.candidates},
                              1,
                              Product::wgmma_bf16};
        double alone = 1;
        for (int splits = 1; splits <= kMaxCluster; splits *= 2) {
            for (int candidates = 1; candidates <= row.candidates; ++candidates) {
                const auto layout = fit_layout(sizes, hopper.shared_bytes, candidates, splits);
                if (!layout) break;
                alone = std::min(
                    alone, predict(sizes, hopper, {candidates, 1, splits}, *layout).predicted_s);
            }
        }
        const double shared = choose_plan(sizes, hopper)->predicted_s;
        CHECK(std::abs(alone * 1e3 - row.alone) < 0.012 * row.alone);
        CHECK(std::abs(shared * 1e3 - row.shared) < 0.012 * row.shared);
    }
}

}  // namespace

int main() {
    every_element_has_its_own_place();
    a_lane_finds_its_fragment_in_16_bytes();
    tf32_is_rounded_and_lies_as_lanes_multiply();
    panels_are_what_descriptors_name();
    swizzles_exchange_what_lies_in_a_panel();
    warpgroups_take_all_rows_in_few_passes();
    gaps_are_zero_and_heads_lie_together();
    spans_hold_every_key_that_a_row_may_see();
    shares_cover_everything_once();
    choices_fit_and_fill_the_chip();
    predictions_are_those_of_the_documentation();
}
