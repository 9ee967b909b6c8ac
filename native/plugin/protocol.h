// The bytes between this executable and the daemon. cni/rpc/protocol.ts describes them and is the
// twin of this file: a change of one byte is a new version. Numbers are 32 bits, most significant
// first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hawser {

/** "hws" and the version of the protocol: the first, which a queued DEL is of, and the newest. */
constexpr uint32_t kFirstMagic = 0x68777301;
constexpr uint32_t kMagic = 0x68777302;
constexpr size_t kHeaderBytes = 12;
constexpr uint32_t kWordCni = 1;
constexpr uint32_t kWordQuery = 2;
constexpr uint32_t kWordSuccess = 0;
constexpr uint32_t kWordError = 1;

/**
 * Annotations come with a configuration: 256 KiB at most, of which Go's encoding/json makes up to
 * six times that (a '<' becomes \u003c).
 */
constexpr size_t kMaxConfigBytes = 4 * 1024 * 1024;
constexpr size_t kMaxVariableBytes = 64 * 1024;
constexpr size_t kMaxReplyBytes = 1024 * 1024;
constexpr size_t kMaxStderrBytes = 16 * 1024;

constexpr char kDefaultSocket[] = "/run/hawser/cni.sock";
/** A path in sockaddr_un has 108 bytes with its zero (unix(7)). */
constexpr size_t kMaxSocketPath = 107;

/** Whether `path` is absolute, fits, and does not end like a folder's. */
inline bool isSocketPath(std::string_view path) {
  return path.size() >= 2 && path.size() <= kMaxSocketPath && path[0] == '/' &&
         path.back() != '/' && path.find('\0') == std::string_view::npos;
}

inline void putNumber(std::string& to, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) to += static_cast<char>(value >> shift & 0xff);
}

inline void putText(std::string& to, std::string_view text) {
  putNumber(to, static_cast<uint32_t>(text.size()));
  to += text;
}

inline uint32_t getNumber(const char* from) {
  uint32_t value = 0;
  for (int k = 0; k < 4; ++k) value = value << 8 | static_cast<unsigned char>(from[k]);
  return value;
}

}  // namespace hawser
