// As much JSON (RFC 8259) as a plugin needs that passes its configuration on: is it well formed,
// and what do three strings of the outermost object say. The daemon parses the whole again.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace hawser {

/** Arrays and objects inside each other. */
constexpr int kMaxDepth = 128;

/** A member of the outermost object. `null` is as good as absent; of two, the last one counts. */
struct Member {
  enum Kind { kAbsent, kString, kOther };
  Kind kind = kAbsent;
  std::string text;
};

struct Config {
  Member cniVersion;
  Member name;
  Member socket;
};

/** Reads a configuration; throws Failure (decode) when it is not exactly one JSON object. */
Config readConfig(std::string_view text);

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
