// The `hawser` executable that a container runtime starts for every CNI verb: it checks what the
// runtime says, hands it to the daemon, and prints the daemon's answer.
//
//     stdin and environment → VERSION? → variables → configuration → daemon → stdout
//                                                                  ↘ away, DEL: queue
//
// With arguments, which no runtime gives, it is a tool of the daemon's container (tool.h).
#include <csignal>
#include <exception>
#include <optional>

#include "answer.h"
#include "config.h"
#include "daemon.h"
#include "del.h"
#include "environment.h"
#include "json.h"
#include "protocol.h"
#include "tool.h"

using namespace hawser;

namespace {

int forward(const Verb& verb, const Environment& environment, std::string_view text,
            const std::string& socket) {
  const std::string message = encodeRequest(environment, text);
  return printReply(ask(socket, message, verb.connectMs, verb.answerMs, verb.away));
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
  const bool isDel = verb.name == "DEL";
  if (version && broken && isBlank(text)) broken.reset();
  if (!version) checkEnvironment(verb, environment);
  if (broken && isDel && text.size() > kMaxConfigBytes) return delWithoutConfig(*broken);
  if (broken) throw *broken;
  if (version)
    return printVersions(config.cniVersion.text.empty() ? kLatestVersion : answerVersion);
  // A DEL in a version that we don't speak, of a network that was another's yesterday, still is
  // one.
  if (isDel) return del(verb, environment, config, text, checkConfig(config));
  checkVersion(verb, config);
  return forward(verb, environment, text, checkConfig(config));
}

}  // namespace

int main(int count, char** words) {
  ::signal(SIGPIPE, SIG_IGN);
  std::string answerVersion(kLatestVersion);
  try {
    const Environment environment = readEnvironment();
    if (count > 1 && environment.values[kCommand].empty()) return runTool(words + 1);
    if (environment.values[kCommand].empty()) return printAbout();
    return run(environment, answerVersion);
  } catch (const Failure& failure) {
    return printError(answerVersion, failure);
  } catch (const std::exception& error) {
    return printError(answerVersion, {kInternalError, error.what(), "free memory; try again"});
  }
}
