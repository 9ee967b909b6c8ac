// Runs a CNI plugin as a runtime does and measures how long it takes, without the cost of Node's
// process handling in the figure.
//
//   spawn --plugin FILE --config FILE --cni-path DIRECTORY
//
// Prints "ready". Each line on stdin, `VERB CONTAINER NETNS [CONTAINER NETNS]...`, runs the plugin
// for every container at once: configuration on stdin, CNI_* in the environment, interface eth0.
// The answer is one line of JSON: {"ns":N,"status":N,"each":[N,...],"output":"..."}: from before
// the first posix_spawn until the last plugin has been waited for; the largest exit status; the
// time of each by itself; what the first one that failed wrote, else the first (stdout, then
// stderr), cut at 4,000 bytes.
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iostream>
#include <sstream>
#include <vector>

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

/// One plugin under way: what it reads and writes, and when it started and ended.
struct Run {
  pid_t child = 0;
  int in = -1;
  int out = -1;
  int err = -1;
  int status = -1;
  uint64_t start = 0;
  uint64_t end = 0;

  std::string output() const { return contents(out, kOutputBytes) + contents(err, kOutputBytes); }
  void close_files() const {
    for (const int fd : {in, out, err}) close(fd);
  }
};

Run start_plugin(const std::string& plugin, const std::string& config,
                 const std::array<std::string, 6>& variables) {
  Run run;
  run.in = check(open(config.c_str(), O_RDONLY | O_CLOEXEC), config);
  run.out = memory_file("stdout");
  run.err = memory_file("stderr");
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, run.in, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, run.out, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, run.err, STDERR_FILENO);
  std::array<char*, 7> environment{};
  for (size_t i = 0; i < variables.size(); i++) {
    environment[i] = const_cast<char*>(variables[i].c_str());
  }
  char* arguments[] = {const_cast<char*>(plugin.c_str()), nullptr};
  run.start = monotonic_ns();
  const int error =
      posix_spawn(&run.child, plugin.c_str(), &files, nullptr, arguments, environment.data());
  if (error != 0) fail(plugin, error);
  posix_spawn_file_actions_destroy(&files);
  return run;
}

/// Waits until every plugin has ended, in whatever order they do.
void wait_for(std::vector<Run>& runs) {
  for (size_t left = runs.size(); left > 0;) {
    int status = 0;
    const pid_t child = waitpid(-1, &status, 0);
    if (child < 0) {
      if (errno != EINTR) fail("waiting for a plugin");
      continue;
    }
    for (Run& run : runs) {
      if (run.child != child) continue;
      run.end = monotonic_ns();
      run.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
      left--;
    }
  }
}

void answer(const std::vector<Run>& runs) {
  uint64_t end = 0;
  int status = 0;
  size_t shown = runs.size();
  for (size_t i = 0; i < runs.size(); i++) {
    end = std::max(end, runs[i].end);
    status = std::max(status, runs[i].status);
    if (shown == runs.size() && runs[i].status != 0) shown = i;
  }
  const std::string output = runs[shown == runs.size() ? 0 : shown].output();
  std::cout << "{\"ns\":" << end - runs[0].start << ",\"status\":" << status << ",\"each\":[";
  for (size_t i = 0; i < runs.size(); i++) {
    std::cout << (i == 0 ? "" : ",") << runs[i].end - runs[i].start;
  }
  std::cout << "],\"output\":" << quoted(output.substr(0, kOutputBytes)) << "}" << std::endl;
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
    if (!(words >> verb)) throw std::runtime_error("not a request: " + line);
    std::vector<std::array<std::string, 6>> environments;
    while (words >> container >> netns) {
      environments.push_back({"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + container,
                              "CNI_NETNS=" + netns, "CNI_IFNAME=eth0", cni_path,
                              "PATH=/usr/sbin:/usr/bin:/sbin:/bin"});
    }
    if (environments.empty()) throw std::runtime_error("no container: " + line);
    std::vector<Run> runs;
    for (const auto& environment : environments) {
      runs.push_back(start_plugin(plugin, config, environment));
    }
    wait_for(runs);
    answer(runs);
    for (const Run& each : runs) each.close_files();
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
