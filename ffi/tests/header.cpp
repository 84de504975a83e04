// The header in C++: initialiser macros, and a linked call.
#include <rwwce.h>

#include <cmath>
#include <cstdio>
#include <string_view>
#include <type_traits>
#include <vector>

// Structures that are stored or sent keep their layout.
static_assert(std::is_trivially_copyable_v<rwwce_total> && sizeof(rwwce_total) == 48);
static_assert(std::is_trivially_copyable_v<rwwce_row_partial> && sizeof(rwwce_row_partial) == 32);
static_assert(std::is_same_v<rwwce_status, std::uint32_t>);
static_assert(RWWCE_NO_LABEL == SIZE_MAX);

static bool macros() {
  const rwwce_options a = RWWCE_OPTIONS_INIT(2);
  const rwwce_binary_options b = RWWCE_BINARY_OPTIONS_INIT(3);
  const rwwce_class_weights_options c = RWWCE_CLASS_WEIGHTS_OPTIONS_INIT(RWWCE_SCHEME_BALANCED);
  const rwwce_row_partial d = RWWCE_ROW_PARTIAL_INIT;
  return a.struct_size == sizeof a && a.classes == 2 && a.positions == 1 && a.focal == 0.0f &&
         a.temperature == 1.0f && a.upstream == 1.0f && a.logit_type == RWWCE_LOGIT_F32 &&
         a.logit_scale == 1.0f && a.logit_zero_point == 0 && a.backend == nullptr &&
         b.struct_size == sizeof b && b.labels == 3 && b.upstream == 1.0f &&
         b.logit_type == RWWCE_LOGIT_F32 && b.logit_scale == 1.0f && b.logit_zero_point == 0 &&
         b.backend == nullptr &&
         c.struct_size == sizeof c && c.scheme == RWWCE_SCHEME_BALANCED && c.beta == 0.0 &&
         d.largest == -INFINITY && d.excluded_sum == 0.0 && d.classes == 0 && d.labels == 0;
}

static bool call() {
  const std::vector<float> logits{0.0f, 0.0f, 1.0f, 1.0f};
  const std::vector<std::uint8_t> labels{0, 1};
  const rwwce_options options = RWWCE_OPTIONS_INIT(2);
  rwwce_summary summary{};
  rwwce_error error{};
  return rwwce_loss(&options, logits.data(), logits.size(), labels.data(), labels.size(),
                    RWWCE_LABEL_U8, nullptr, 0, &summary, &error) == RWWCE_OK &&
         std::abs(summary.loss - std::log(2.0f)) < 1e-6f;
}

int main() {
  const bool good = macros() && call() && std::string_view(rwwce_version()) == RWWCE_VERSION;
  std::printf("header.cpp: %s\n", good ? "good" : "FAILED");
  return good ? 0 : 1;
}
