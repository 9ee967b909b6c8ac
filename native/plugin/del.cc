// Theory of operation. What keeps a DEL from being done now is never the runtime's business:
//
//     daemon away, hung, or not understood           → queue, ask once more, success
//     daemon answers that it can't now               → queue, success
//       (5: no room or no rights on its disk; 11: busy; 100: a bug)
//     the queue is full or can't be written          → success all the same
//     daemon answers what is wrong with the request  → its error
//
// What is queued the daemon does when it is back, and again every few minutes. What is not queued
// it finds when it looks for pods whose namespaces are gone, which is why the runtime needs not be
// held up. Either way a line on stderr says so.
#include "del.h"

#include <unistd.h>

#include "answer.h"
#include "daemon.h"
#include "patience.h"
#include "queue.h"

namespace hawser {

namespace {

/** Milliseconds for the second try of a DEL, after it was queued. */
constexpr int kSecondTryMs = patience(10'000);

constexpr char kCollected[] =
    "the daemon removes what is left of the pod when its namespace is gone";

/** Whether the daemon's error says that the request is right and can't be done now. */
bool mayPass(const Reply& reply) {
  if (!reply.error) return false;
  const std::string code = readConfig(reply.text).code.text;
  for (const int passing : {kIoError, kTryAgain, kInternalError}) {
    if (code == std::to_string(passing)) return true;
  }
  return false;
}

/** The path of the queued file; "" when there is none, said on stderr. */
std::string queued(const std::string& socket, const std::string& message,
                   const std::string& cause) {
  try {
    std::string file = enqueue(socket, message);
    note("DEL is queued in " + file + ": " + cause);
    return file;
  } catch (const Failure& failure) {
    note("DEL is not done: " + cause + "; and can not be queued: " + failure.message + "; " +
         kCollected);
    return "";
  }
}

/**
 * After a DEL that got no answer: the daemon may have looked into its queue just before the file
 * was there, so it is asked once more; then either it answers, or it will look again after it
 * opened its socket.
 */
int askOnceMore(const std::string& socket, const std::string& message, const std::string& file) {
  Reply reply;
  try {
    reply = ask(socket, message, 0, kSecondTryMs, kTryAgain);
  } catch (const Failure&) {
    return 0;
  }
  if (mayPass(reply)) return 0;
  ::unlink(file.c_str());
  return printReply(reply);
}

}  // namespace

int del(const Verb& verb, const Environment& environment, const Config& config,
        std::string_view text, const std::string& socket) {
  const std::string message = encodeRequest(environment, withoutRuntimeConfig(config, text));
  Reply reply;
  try {
    reply = ask(socket, message, verb.connectMs, verb.answerMs, verb.away);
  } catch (const Failure& failure) {
    const std::string file = queued(socket, message, failure.message);
    return file.empty() ? 0 : askOnceMore(socket, message, file);
  }
  if (!mayPass(reply)) return printReply(reply);
  queued(socket, message, "the daemon answers " + reply.text);
  return 0;
}

int delWithoutConfig(const Failure& failure) {
  note("DEL is not done: " + failure.message + "; " + kCollected);
  return 0;
}

}  // namespace hawser
