// What the executable does in the daemon's container, where a Node that is started for it would
// cost half a second of CPU:
//
//     hawser --alive [SOCKET]         exits with 0 when the daemon answers
//     hawser --ready [SOCKET]         the same, when it serves pods; and says why not
//     hawser --init PROGRAM [ARG...]  runs it as the first process of a container
#pragma once

namespace hawser {

/** Does what `words`, which end with a null, say; gives the exit code. */
int runTool(char** words);

/**
 * Runs the program, hands on all signals, and takes the exit codes of processes that nobody waits
 * for any more; ends with the program, and as it did (128 + number after a signal).
 */
int runInit(char** words);

}  // namespace hawser
