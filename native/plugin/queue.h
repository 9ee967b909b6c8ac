// DELs for which there was no daemon: files that the daemon works off when it is back.
// cni/rpc/del-queue.ts reads them and says how they are named.
#pragma once

#include <string>
#include <string_view>

namespace hawser {

/**
 * Writes `message` into the queue of the daemon at `socket`, durably, and gives the file's path.
 * Makes the folder when it is missing. Throws Failure (try again) when the queue is full, can't be
 * written, or isn't root's alone; then nothing is left behind.
 */
std::string enqueue(const std::string& socket, std::string_view message);

}  // namespace hawser
