// The loops that are timed.
//
// Nothing is done to the keys in them: they have been brought into the library's own form (byte
// order, padding, arrays of pointers) before.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace bench {

/// Keys of one call: BATCH_SIZE of dataplane/limits.ts.
constexpr unsigned kBatch = 256;

/// One way to look up.
class Kind {
 public:
  virtual ~Kind() = default;
  virtual void load(const std::vector<uint32_t>& words) = 0;
  virtual std::vector<uint32_t> answers() const = 0;
  /// Keys looked up by one pass over the trace.
  virtual size_t keys() const = 0;
  virtual uint64_t pass() const = 0;
  virtual uint64_t chain() const = 0;
};

/// `Lookup` has: Key and Answer, how many words a key has in the trace (kWords), `key(words)`,
/// `find(keys, pointers to them, n, answers)`, `answer(found)`; maybe `select()`, called before a
/// pass.
template <typename Lookup>
class KindOf : public Kind {
 public:
  explicit KindOf(Lookup lookup) : lookup_(lookup) {}

  void load(const std::vector<uint32_t>& words) override {
    keys_.resize(words.size() / Lookup::kWords);
    pointers_.resize(keys_.size());
    for (size_t i = 0; i < keys_.size(); i++) {
      keys_[i] = Lookup::key(&words[i * Lookup::kWords]);
      pointers_[i] = &keys_[i];
    }
  }

  size_t keys() const override { return keys_.size(); }

  std::vector<uint32_t> answers() const override {
    std::vector<uint32_t> answers;
    answers.reserve(keys_.size());
    batches([&](const Answer* found, unsigned n) {
      for (unsigned i = 0; i < n; i++) answers.push_back(lookup_.answer(found[i]));
    });
    return answers;
  }

  uint64_t pass() const override {
    uint64_t sum = 0;
    batches([&](const Answer* found, unsigned n) {
      for (unsigned i = 0; i < n; i++) sum += static_cast<uint64_t>(found[i]);
    });
    return sum;
  }

  uint64_t chain() const override {
    // The compiler doesn't know that it is 0, so no key is known before the answer is.
    static const volatile uint32_t kZero = 0;
    const uint32_t zero = kZero;
    select();
    uint64_t sum = 0;
    Answer found{};
    for (const Key& each : keys_) {
      Key key = each;
      uint32_t first;
      std::memcpy(&first, &key, 4);
      first ^= static_cast<uint32_t>(found) & zero;
      std::memcpy(&key, &first, 4);
      const void* pointer = &key;
      lookup_.find(&key, &pointer, 1, &found);
      sum += static_cast<uint64_t>(found);
    }
    return sum;
  }

 private:
  using Key = typename Lookup::Key;
  using Answer = typename Lookup::Answer;

  void select() const {
    if constexpr (requires { lookup_.select(); }) lookup_.select();
  }

  template <typename Take>
  void batches(Take take) const {
    alignas(64) Answer found[kBatch];
    select();
    for (size_t i = 0; i < keys_.size(); i += kBatch) {
      const auto n = static_cast<unsigned>(std::min<size_t>(kBatch, keys_.size() - i));
      lookup_.find(&keys_[i], &pointers_[i], n, found);
      take(found, n);
    }
  }

  Lookup lookup_;
  std::vector<Key> keys_;
  std::vector<const void*> pointers_;
};

}  // namespace bench
