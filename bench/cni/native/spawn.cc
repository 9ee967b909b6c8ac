// Runs a CNI plugin as a runtime does and measures how long it takes, without the cost of Node's
// process handling in the figure.
//
//   spawn --plugin FILE --config FILE --cni-path DIRECTORY
//
// Prints "ready". Each line on stdin, `VERB CONTAINER NETNS`, runs the plugin once: configuration
// on stdin, CNI_* in the environment, interface eth0. The answer is one line of JSON:
// {"ns":N,"status":N,"output":"..."}: from before posix_spawn until the plugin has been waited for;
// its exit status; what it wrote (stdout, then stderr), cut at 4,000 bytes.
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <iostream>
#include <sstream>

#include "../../path/native/os.h"

namespace {

using namespace bench;

constexpr size_t kOutputBytes = 4000;

/// A file in memory: a plugin never waits for a reader.
int memory_file(const char* name) { return check(memfd_create(name, MFD_CLOEXEC), name); }

std::string contents(int fd, size_t most) {
  std::string text(most, '\0');
  const ssize_t n = check(pread(fd, text.data(), text.size(), 0), "output");
  text.resize(static_cast<size_t>(n));
  return text;
}

std::string quoted(const std::string& text) {
  std::string json = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') json += '\\';
    if (byte >= 0x20 && byte < 0x7f) {
      json += c;
    } else {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(byte));
      json += escaped;
    }
  }
  return json + '"';
}

struct Run {
  uint64_t ns;
  int status;
};

Run run_plugin(const std::string& plugin, int in, int out, int err,
               const std::array<std::string, 6>& variables) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
  std::array<char*, 7> environment{};
  for (size_t i = 0; i < variables.size(); i++) {
    environment[i] = const_cast<char*>(variables[i].c_str());
  }
  char* arguments[] = {const_cast<char*>(plugin.c_str()), nullptr};
  pid_t child = 0;
  int status = 0;
  const uint64_t start = monotonic_ns();
  const int error =
      posix_spawn(&child, plugin.c_str(), &files, nullptr, arguments, environment.data());
  if (error != 0) fail(plugin, error);
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) fail("waiting for " + plugin);
  }
  const uint64_t end = monotonic_ns();
  posix_spawn_file_actions_destroy(&files);
  return {.ns = end - start, .status = WIFEXITED(status) ? WEXITSTATUS(status) : 128};
}

void run(int argc, char** argv) {
  const std::string plugin = argument(argc, argv, "--plugin");
  const std::string config = argument(argc, argv, "--config");
  const std::string cni_path = "CNI_PATH=" + argument(argc, argv, "--cni-path");
  std::cout << "ready" << std::endl;
  std::string line;
  while (!stopping && std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string verb, container, netns;
    if (!(words >> verb >> container >> netns)) throw std::runtime_error("not a request: " + line);
    const int in = check(open(config.c_str(), O_RDONLY | O_CLOEXEC), config);
    const int out = memory_file("stdout");
    const int err = memory_file("stderr");
    const Run done =
        run_plugin(plugin, in, out, err,
                   {"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + container, "CNI_NETNS=" + netns,
                    "CNI_IFNAME=eth0", cni_path, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"});
    const std::string output = contents(out, kOutputBytes) + contents(err, kOutputBytes);
    for (const int fd : {in, out, err}) close(fd);
    std::cout << "{\"ns\":" << done.ns << ",\"status\":" << done.status
              << ",\"output\":" << quoted(output.substr(0, kOutputBytes)) << "}" << std::endl;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    bench::stop_on_signals();
    run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "spawn: %s\n", error.what());
    return 1;
  }
}
