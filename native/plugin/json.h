// As much JSON (RFC 8259) as a plugin needs that passes its configuration on: is it well formed,
// and what do a few members of the outermost object say. The daemon parses the whole again.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hawser {

/** Arrays and objects inside each other. */
constexpr int kMaxDepth = 128;

/** A member of the outermost object. `null` is as good as absent; of two, the last one counts. */
struct Member {
  enum Kind { kAbsent, kString, kOther };
  Kind kind = kAbsent;
  /** The string; of another value its JSON. */
  std::string text;
};

/** What is read of an object: of a configuration, and of what the daemon answers. */
struct Config {
  Member cniVersion;
  Member name;
  Member socket;
  Member code;
  Member ready;
  Member causes;
  /** Where the outermost members begin and end, `runtimeConfig` left out. */
  std::vector<std::pair<size_t, size_t>> members;
  bool hasRuntimeConfig = false;
};

/** Reads a configuration; throws Failure (decode) when it is not exactly one JSON object. */
Config readConfig(std::string_view text);

/**
 * The object `text`, which `config` was read from, without `runtimeConfig`: what a runtime hands on
 * for an ADD, a pod's annotations among it, and nothing that a DEL needs.
 */
std::string withoutRuntimeConfig(const Config& config, std::string_view text);

/** Whether `text` is exactly one JSON object. */
bool isJsonObject(std::string_view text);

/** Bytes of the UTF-8 sequence (RFC 3629) that `text` begins with; 0 when it is none. */
size_t utf8Length(std::string_view text);

bool isUtf8(std::string_view text);

/** Appends `text` as a JSON string; bytes that are not UTF-8 become U+FFFD. */
void appendQuoted(std::string& to, std::string_view text);

/** `text` as messages may show it: quoted, and cut when it is long. */
std::string shown(std::string_view text);

}  // namespace hawser
