// Asks the daemon over its unix socket.
#pragma once

#include <string>
#include <string_view>

#include "environment.h"

namespace hawser {

struct Reply {
  bool error;
  /** What goes to stdout: one JSON object, or nothing. */
  std::string text;
  /** What goes to stderr before: lines, or nothing. */
  std::string said;
};

/**
 * The message for the daemon: the variables and the configuration, in the first version of the
 * protocol.
 */
std::string encodeRequest(const Environment& environment, std::string_view config);

/**
 * Sends `message`, in the newest version that the daemon at `socket` speaks, and gives its reply. A
 * daemon that is away is waited for for `connectMs`; all in all it takes at most `answerMs`. Throws
 * Failure: `away` when there is no answer, kPeerError, kProtocolError.
 */
Reply ask(const std::string& socket, std::string message, int connectMs, int answerMs, int away);

/**
 * Asks the daemon what the command line asks it (cni/rpc/protocol.ts, "query"), once, for at most
 * `ms`. The reply's text is JSON, or what is wrong when it is an error. Throws Failure as `ask`
 * does.
 */
Reply query(const std::string& socket, std::string_view name, int ms);

/** Prints what the daemon answered to a request; gives the exit code. */
int printReply(const Reply& reply);

}  // namespace hawser
