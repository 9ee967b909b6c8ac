#include "config.h"

#include <cerrno>
#include <cstring>

#include "answer.h"
#include "io.h"
#include "patience.h"
#include "protocol.h"

namespace hawser {

namespace {

/** Milliseconds that the runtime has for its configuration. */
constexpr int kStdinMs = patience(10'000);

}  // namespace

void readStdin(std::string& text) {
  const Deadline deadline(kStdinMs);
  char part[16 * 1024];
  for (;;) {
    if (!ready(STDIN_FILENO, POLLIN, deadline)) {
      throw Failure{kIoError, "stdin: the network configuration did not end in time",
                    "the runtime must close stdin"};
    }
    const ssize_t got = ::read(STDIN_FILENO, part, sizeof part);
    if (got == 0) return;
    if (got < 0 && errno != EINTR && errno != EAGAIN) {
      throw Failure{kIoError, std::string("stdin: ") + std::strerror(errno), ""};
    }
    if (got > 0) text.append(part, static_cast<size_t>(got));
    if (text.size() > kMaxConfigBytes) {
      throw Failure{kDecodeError,
                    "stdin: longer than " + std::to_string(kMaxConfigBytes) + " bytes", ""};
    }
  }
}

bool isBlank(std::string_view text) {
  return text.size() <= kMaxConfigBytes &&
         text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

std::string_view askedVersion(const Config& config) {
  const Member& version = config.cniVersion;
  if (version.kind == Member::kOther) return "";
  return version.text.empty() ? kVersions[0] : std::string_view(version.text);
}

void checkVersion(const Verb& verb, const Config& config) {
  if (config.cniVersion.kind == Member::kOther) {
    throw Failure{kDecodeError, "cniVersion: not a string", "for example \"1.1.0\""};
  }
  const std::string_view version = askedVersion(config);
  const int index = versionIndex(version);
  if (index < 0) {
    throw Failure{kVersionError, "cniVersion: " + shown(version) + " is not supported",
                  "supported: " + versionList("", ", ")};
  }
  if (index < versionIndex(verb.since)) {
    throw Failure{kVersionError,
                  "cniVersion: " + shown(version) + " has no " + std::string(verb.name),
                  std::string("it is there from version ").append(verb.since).append(" on")};
  }
}

std::string checkConfig(const Config& config) {
  if (config.name.kind != Member::kString || !isIdentifier(config.name.text)) {
    const bool other = config.name.kind != Member::kString;
    const std::string value = other ? "no string" : shown(config.name.text);
    throw Failure{kConfigError, "name: " + value + " is not the name of a network",
                  "1 to 200 letters, digits, '_', '.' and '-', the first a letter or digit"};
  }
  if (config.socket.kind == Member::kAbsent) return kDefaultSocket;
  const std::string& socket = config.socket.text;
  if (config.socket.kind == Member::kOther || !isSocketPath(socket)) {
    throw Failure{kConfigError, "socket: " + shown(socket) + " is not a path of a socket",
                  "an absolute path of at most " + std::to_string(kMaxSocketPath) + " bytes"};
  }
  return socket;
}

}  // namespace hawser
