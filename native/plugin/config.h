// What this executable uses of a network configuration: how it is read, and what it must be.
#pragma once

#include <string>
#include <string_view>

#include "environment.h"
#include "json.h"

namespace hawser {

/** Reads stdin to its end into `text`; what was read stays there on Failure (I/O, decode). */
void readStdin(std::string& text);

/** Whether there is no configuration, as VERSION is allowed to have none. */
bool isBlank(std::string_view text);

/** A configuration without a version is of the oldest one; "" when it is no string. */
std::string_view askedVersion(const Config& config);

/** Throws Failure (version, decode) when we don't speak the version, or it has no such verb. */
void checkVersion(const Verb& verb, const Config& config);

/** Checks the network's name; gives the path of the daemon's socket. Throws Failure (config). */
std::string checkConfig(const Config& config);

}  // namespace hawser
