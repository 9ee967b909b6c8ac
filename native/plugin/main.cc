// The `hawser` executable that a container runtime starts for every CNI verb: it checks what the
// runtime says, hands it to the daemon, and prints the daemon's answer.
//
//     stdin and environment → VERSION? → variables → configuration → daemon → stdout
//                                                                  ↘ away, DEL: queue
#include <cerrno>
#include <csignal>
#include <cstring>
#include <exception>
#include <optional>

#include "answer.h"
#include "daemon.h"
#include "environment.h"
#include "io.h"
#include "json.h"
#include "protocol.h"
#include "queue.h"

using namespace hawser;

namespace {

constexpr char kDefaultSocket[] = "/run/hawser/cni.sock";
/** Milliseconds that the runtime has for its configuration. */
constexpr int kStdinMs = 10'000;
/** Milliseconds for the second try of a DEL, after it was queued. */
constexpr int kSecondTryMs = 10'000;

/** Reads stdin to its end into `text`; what was read stays there on Failure. */
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

/** Whether there is no configuration, as VERSION is allowed to have none. */
bool isBlank(std::string_view text) {
  return text.size() <= kMaxConfigBytes &&
         text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

/** A configuration without a version is of the oldest one. */
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

/** Checks what this executable uses of the configuration; gives the path of the daemon's socket. */
std::string checkConfig(const Config& config) {
  if (config.name.kind != Member::kString || !isIdentifier(config.name.text)) {
    const bool other = config.name.kind == Member::kOther;
    const std::string value = other ? "no string" : shown(config.name.text);
    throw Failure{kConfigError, "name: " + value + " is not the name of a network",
                  "1 to 200 letters, digits, '_', '.' and '-', the first a letter or digit"};
  }
  if (config.socket.kind == Member::kAbsent) return kDefaultSocket;
  const std::string& socket = config.socket.text;
  if (config.socket.kind == Member::kOther || socket.size() < 2 || socket[0] != '/' ||
      socket.back() == '/' || socket.size() > kMaxSocketPath ||
      socket.find('\0') != std::string::npos) {
    throw Failure{kConfigError, "socket: " + shown(socket) + " is not a path of a socket",
                  "an absolute path of at most " + std::to_string(kMaxSocketPath) + " bytes"};
  }
  return socket;
}

int printReply(const Reply& reply) {
  // Whether it can be written or not: the answer counts.
  (void)writeAll(STDERR_FILENO, reply.said);
  return print(reply.text, reply.error ? 1 : 0);
}

/**
 * A DEL that got no answer: it must not keep the pod from going, so it is left for the daemon, and
 * has succeeded. The daemon may have looked into its queue just before that, so it is asked once
 * more; then either it answers, or it will look again after it opened its socket.
 */
int delLater(const std::string& socket, const std::string& message, const Failure& unanswered) {
  std::string file;
  try {
    file = enqueue(socket, message);
  } catch (const Failure& failure) {
    throw Failure{kTryAgain,
                  unanswered.message + "; and the DEL can not be queued: " + failure.message,
                  unanswered.details + "; " + failure.details};
  }
  Reply reply;
  try {
    reply = ask(socket, message, 0, kSecondTryMs, kTryAgain);
  } catch (const Failure&) {
    note("DEL is queued in " + file + ": " + unanswered.message);
    return 0;
  }
  ::unlink(file.c_str());
  return printReply(reply);
}

int forward(const Verb& verb, const Environment& environment, std::string_view config,
            const std::string& socket) {
  const std::string message = encodeRequest(environment, config);
  try {
    return printReply(ask(socket, message, verb.connectMs, verb.answerMs, verb.away));
  } catch (const Failure& failure) {
    if (verb.name != "DEL") throw;
    return delLater(socket, message, failure);
  }
}

/** Does what the environment says; `answerVersion` is the version for errors, as soon as it is
 * known. */
int run(const Environment& environment, std::string& answerVersion) {
  std::string text;
  Config config;
  std::optional<Failure> broken;
  try {
    readStdin(text);
    config = readConfig(text);
    if (versionIndex(askedVersion(config)) >= 0) answerVersion = askedVersion(config);
  } catch (const Failure& failure) {
    broken = failure;
  }
  const Verb& verb = findVerb(environment);
  const bool version = verb.name == "VERSION";
  if (version && broken && isBlank(text)) broken.reset();
  if (!version) checkEnvironment(verb, environment);
  if (broken) throw *broken;
  if (version)
    return printVersions(config.cniVersion.text.empty() ? kLatestVersion : answerVersion);
  checkVersion(verb, config);
  return forward(verb, environment, text, checkConfig(config));
}

}  // namespace

int main() {
  ::signal(SIGPIPE, SIG_IGN);
  std::string answerVersion(kLatestVersion);
  try {
    const Environment environment = readEnvironment();
    if (environment.values[kCommand].empty()) return printAbout();
    return run(environment, answerVersion);
  } catch (const Failure& failure) {
    return printError(answerVersion, failure);
  } catch (const std::exception& error) {
    return printError(answerVersion, {kInternalError, error.what(), "free memory; try again"});
  }
}
