#include "environment.h"

#include <cstdlib>

#include "answer.h"
#include "json.h"
#include "patience.h"
#include "protocol.h"

namespace hawser {

namespace {

/** Longest container id or network name; runtimes use 64 bytes. */
constexpr size_t kMaxIdentifier = 200;
/** IFNAMSIZ is 16 with the zero (linux/if.h). */
constexpr size_t kMaxIfname = 15;

constexpr unsigned kId = 1u << kContainerId;
constexpr unsigned kNs = 1u << kNetns;
constexpr unsigned kIf = 1u << kIfname;

// A runtime gives a sandbox two minutes (kubelet's runtimeRequestTimeout): an ADD that fails, and
// the DEL that follows it, must both fit. A daemon that lives answers within 45 s
// (cni/pods/turns.ts), with the wait behind others.
//
// A daemon that starts anew is away for a second under systemd and for some ten in a DaemonSet that
// is upgraded. ADD and STATUS wait that out: a failing STATUS makes the node NotReady, and its pods
// are taken out of their services. A kubelet gives a runtime's status 30 s before it says so by
// itself. DEL needs not wait, it is queued.
constexpr int kRestartMs = 15'000;

constexpr Verb verbOf(std::string_view name, unsigned required, std::string_view since,
                      int connectMs, int answerMs, int away) {
  return {name, required, since, patience(connectMs), patience(answerMs), away};
}

constexpr Verb kVerbs[] = {
    // name, required, since, connectMs, answerMs, away
    verbOf("ADD", kId | kNs | kIf, "0.1.0", kRestartMs, 60'000, kTryAgain),
    verbOf("DEL", kId | kIf, "0.1.0", 1'000, 50'000, kTryAgain),
    verbOf("CHECK", kId | kNs | kIf, "0.4.0", 2'000, 60'000, kTryAgain),
    verbOf("GC", 0, "1.1.0", 2'000, 110'000, kTryAgain),
    verbOf("STATUS", 0, "1.1.0", kRestartMs, 20'000, kNotAvailable),
    verbOf("VERSION", 0, "0.1.0", 0, 0, kInternalError),
};

/** Linux takes the byte A0 for white space, and chooses a number where a '%' is. */
bool isIfname(std::string_view text) {
  return !text.empty() && text.size() <= kMaxIfname && text != "." && text != ".." &&
         text.find_first_of("/:% \t\n\v\f\r\xa0") == std::string_view::npos;
}

bool any(std::string_view) { return true; }

struct Rule {
  const char* name;
  bool (*valid)(std::string_view);
  const char* expected;
};

constexpr Rule kRules[kVariables] = {
    {"CNI_COMMAND", any, ""},
    {"CNI_CONTAINERID", isIdentifier,
     "1 to 200 letters, digits, '_', '.' and '-', the first a letter or digit"},
    {"CNI_NETNS", any, "the path of a network namespace"},
    {"CNI_IFNAME", isIfname,
     "1 to 15 bytes, not '.' or '..', without '/', ':', '%' and white space"},
    {"CNI_ARGS", any, ""},
    {"CNI_PATH", any, ""},
};

bool isAlphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

}  // namespace

bool isIdentifier(std::string_view text) {
  if (text.empty() || text.size() > kMaxIdentifier || !isAlphanumeric(text[0])) return false;
  for (const char c : text) {
    if (!isAlphanumeric(c) && c != '_' && c != '.' && c != '-') return false;
  }
  return true;
}

Environment readEnvironment() {
  Environment environment;
  for (int k = 0; k < kVariables; ++k) {
    const char* value = std::getenv(kRules[k].name);
    if (value != nullptr) environment.values[k] = value;
  }
  return environment;
}

const Verb& findVerb(const Environment& environment) {
  const std::string_view command = environment.values[kCommand];
  for (const Verb& verb : kVerbs) {
    if (verb.name == command) return verb;
  }
  throw Failure{kEnvironmentError, "CNI_COMMAND: " + shown(command) + " is not a verb of CNI",
                "ADD, DEL, CHECK, GC, STATUS or VERSION is expected"};
}

void checkEnvironment(const Verb& verb, const Environment& environment) {
  std::string missing;
  for (int k = 0; k < kVariables; ++k) {
    const Rule& rule = kRules[k];
    const std::string_view value = environment.values[k];
    const std::string name = rule.name;
    const bool required = (verb.required >> k & 1) != 0;
    if (value.empty()) {
      if (required) missing.append(missing.empty() ? "" : ", ").append(name);
      continue;
    }
    if (value.size() > kMaxVariableBytes) {
      throw Failure{kEnvironmentError,
                    name + ": longer than " + std::to_string(kMaxVariableBytes) + " bytes", ""};
    }
    if (!isUtf8(value)) throw Failure{kEnvironmentError, name + ": not UTF-8 text", ""};
    if (required && !rule.valid(value)) {
      throw Failure{kEnvironmentError, name + ": " + shown(value) + " is not valid",
                    std::string("expected: ") + rule.expected};
    }
  }
  if (missing.empty()) return;
  throw Failure{kEnvironmentError, missing + ": missing",
                std::string(verb.name) + " needs it in the environment"};
}

}  // namespace hawser
