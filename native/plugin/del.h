// DEL, which must never be impossible: a pod whose DEL fails can't go.
#pragma once

#include <string>
#include <string_view>

#include "answer.h"
#include "environment.h"
#include "json.h"

namespace hawser {

/** Hands the DEL to the daemon at `socket`, or leaves it to it, and gives the exit code. */
int del(const Verb& verb, const Environment& environment, const Config& config,
        std::string_view text, const std::string& socket);

/**
 * A DEL of which not even the configuration could be read, for it is too long: success, and the
 * daemon finds out by itself that the pod has gone.
 */
int delWithoutConfig(const Failure& failure);

}  // namespace hawser
