#include "tool.h"

#include <string>
#include <string_view>

#include "answer.h"
#include "daemon.h"
#include "json.h"
#include "patience.h"
#include "protocol.h"

namespace hawser {

namespace {

/** Milliseconds for an answer; a probe of a kubelet has ten seconds. */
constexpr int kProbeMs = patience(9'000);

int usage() {
  note("usage: hawser --alive [SOCKET] | --ready [SOCKET] | --init PROGRAM [ARGUMENT...]");
  return 2;
}

/** Whatever the daemon answers, it lives; it is ready when it says so. */
int probe(const std::string& socket, bool mustBeReady) {
  const Reply reply = query(socket, "ready", kProbeMs);
  if (!mustBeReady) return 0;
  if (reply.error) {
    note("not ready: " + reply.text);
    return 1;
  }
  const Config answer = readConfig(reply.text);
  if (answer.ready.text == "true") return 0;
  note("not ready: " + answer.causes.text);
  return 1;
}

}  // namespace

int runTool(char** words) {
  const std::string_view what = words[0];
  if (what == "--init") return words[1] == nullptr ? usage() : runInit(words + 1);
  const bool known = what == "--alive" || what == "--ready";
  if (!known || (words[1] != nullptr && words[2] != nullptr)) return usage();
  const std::string socket = words[1] == nullptr ? kDefaultSocket : words[1];
  if (!isSocketPath(socket)) {
    note(socket + ": not an absolute path of at most " + std::to_string(kMaxSocketPath) + " bytes");
    return 2;
  }
  try {
    return probe(socket, what == "--ready");
  } catch (const Failure& failure) {
    note(failure.message + " (" + failure.details + ")");
    return 1;
  }
}

}  // namespace hawser
