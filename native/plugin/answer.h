// What goes to stdout: exactly one JSON document, a result or an error, or nothing.
#pragma once

#include <string>
#include <string_view>

namespace hawser {

/** Codes of the CNI specification and, from 100 on, ours; cni/spec/errors.ts has the same numbers.
 */
constexpr int kVersionError = 1;
constexpr int kEnvironmentError = 4;
constexpr int kIoError = 5;
constexpr int kDecodeError = 6;
constexpr int kConfigError = 7;
constexpr int kTryAgain = 11;
constexpr int kNotAvailable = 50;
constexpr int kInternalError = 100;
constexpr int kPeerError = 101;
constexpr int kProtocolError = 102;

/** Why a verb fails: object and cause, and what helps. Thrown, and printed by main. */
struct Failure {
  int code;
  std::string message;
  std::string details;
};

/** The protocol versions of CNI that we speak, oldest first. */
constexpr std::string_view kVersions[] = {"0.1.0", "0.2.0", "0.3.0", "0.3.1",
                                          "0.4.0", "1.0.0", "1.1.0"};
constexpr std::string_view kLatestVersion = "1.1.0";

/** Index in kVersions, or -1. */
int versionIndex(std::string_view version);

/** All of kVersions, each in `quote`s, with `between` in between. */
std::string versionList(std::string_view quote, std::string_view between);

/** Writes all of `text` to stdout. Returns the exit code: `code`, or 1 when it can't be written. */
int print(std::string_view text, int code);

/** Writes a line to stderr. */
void note(std::string_view line);

/** Prints the error as CNI wants it and returns the exit code 1. */
int printError(std::string_view cniVersion, const Failure& failure);

/** Prints the answer to VERSION and returns the exit code. */
int printVersions(std::string_view cniVersion);

/** What a program without a command says on stderr; the exit code is 0. */
int printAbout();

}  // namespace hawser
