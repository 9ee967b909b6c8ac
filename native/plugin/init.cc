// Theory of operation. All signals are blocked and taken one by one. SIGCHLD: every process that
// has ended is waited for, those too whose parents died before them, which the kernel makes ours
// (we are process 1, or ask to be the reaper). Any other signal goes to the program, which had them
// unblocked before it was started. The program does not outlive us.
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>

#include "answer.h"
#include "tool.h"

namespace hawser {

namespace {

/** As a shell has it. */
constexpr int kCanNotRun = 126;
constexpr int kNotFound = 127;
constexpr int kSignalled = 128;

[[noreturn]] void become(char** words, const sigset_t& before, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(kCanNotRun);  // it has died before we asked to hear of that
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::execvp(words[0], words);
  const int error = errno;
  note(std::string(words[0]) + ": " + std::strerror(error));
  ::_exit(error == ENOENT ? kNotFound : kCanNotRun);
}

/** Waits for all that have ended; gives the exit code of `program` when it is among them, else -1.
 */
int reap(pid_t program) {
  int code = -1;
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, WNOHANG);
    if (ended < 0 && errno == EINTR) continue;
    if (ended <= 0) return code;
    if (ended != program) continue;
    code = WIFSIGNALED(status) ? kSignalled + WTERMSIG(status) : WEXITSTATUS(status);
  }
}

}  // namespace

int runInit(char** words) {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, &before);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  const pid_t self = ::getpid();
  const pid_t program = ::fork();
  if (program < 0) {
    note(std::string("fork: ") + std::strerror(errno));
    return kCanNotRun;
  }
  if (program == 0) become(words, before, self);
  for (;;) {
    siginfo_t info = {};
    const int number = ::sigwaitinfo(&all, &info);
    if (number == SIGCHLD) {
      const int code = reap(program);
      if (code >= 0) return code;
    } else if (number > 0) {
      ::kill(program, number);
    }
  }
}

}  // namespace hawser
