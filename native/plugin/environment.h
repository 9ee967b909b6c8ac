// The CNI_ variables, and the verbs: which variables each needs, since which version of the
// protocol it is there, and how long it may take.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace hawser {

/** The variables, in the order in which they travel to the daemon. */
enum Variable { kCommand, kContainerId, kNetns, kIfname, kArgs, kPath, kVariables };

struct Environment {
  /** Those that are not set are empty. They lie in the process' environment. */
  std::string_view values[kVariables];
};

struct Verb {
  std::string_view name;
  /** Bits `1 << Variable`: what must be there and not empty. */
  unsigned required;
  /** The first version of the protocol that has it. */
  std::string_view since;
  /** Milliseconds for which a daemon that is away is waited for. */
  int connectMs;
  /** Milliseconds until the answer, connecting included. */
  int answerMs;
  /** The code when the daemon can't be asked. */
  int away;
};

Environment readEnvironment();

/** The verb of the environment's command; throws Failure (environment). */
const Verb& findVerb(const Environment& environment);

/** Checks the variables that `verb` needs, and the form of all; throws Failure (environment). */
void checkEnvironment(const Verb& verb, const Environment& environment);

/** Whether `text` is a container id or network name: `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`, and not
 * endless. */
bool isIdentifier(std::string_view text);

}  // namespace hawser
