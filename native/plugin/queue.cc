#include "queue.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "answer.h"
#include "io.h"

namespace hawser {

namespace {

/** Bounds of the folder: it may lie in memory (/run). */
constexpr int kMaxFiles = 16'384;
constexpr int64_t kMaxBytes = 64 * 1024 * 1024;

[[noreturn]] void fail(const std::string& object, const std::string& cause,
                       const std::string& remedy) {
  throw Failure{kTryAgain, object + ": " + cause, remedy};
}

[[noreturn]] void failErrno(const std::string& object) {
  fail(object, std::strerror(errno), "make room or mend the file system, or start the daemon");
}

void syncFolder(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || ::fsync(fd.get()) != 0) failErrno(path);
}

std::string parent(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

/** Makes `path` and what is missing above it. */
void makeFolder(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0) return syncFolder(parent(path));
  if (errno == ENOENT && path != "/") {
    makeFolder(parent(path));
    if (::mkdir(path.c_str(), 0700) == 0) return syncFolder(parent(path));
  }
  if (errno != EEXIST) failErrno(path);
}

/** Opens a folder in which nobody but root can write. */
Fd openFolder(const std::string& path, int flags) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags));
  struct stat facts = {};
  if (fd.get() < 0 || ::fstat(fd.get(), &facts) != 0) failErrno(path);
  if (facts.st_uid != 0 || (facts.st_mode & 022) != 0) {
    fail(path, "others than root may write there", "chown it to root and chmod it to 0700");
  }
  return fd;
}

void checkRoom(const std::string& path, int folder) {
  DIR* entries = ::fdopendir(::fcntl(folder, F_DUPFD_CLOEXEC, 0));
  if (entries == nullptr) failErrno(path);
  int files = 0;
  int64_t bytes = 0;
  while (const dirent* entry = ::readdir(entries)) {
    struct stat facts = {};
    if (entry->d_name[0] == '.' && std::strchr("./", entry->d_name[1]) != nullptr) continue;
    if (::fstatat(folder, entry->d_name, &facts, AT_SYMLINK_NOFOLLOW) == 0) bytes += facts.st_size;
    ++files;
  }
  ::closedir(entries);
  if (files >= kMaxFiles || bytes >= kMaxBytes) {
    fail(path, "the queue is full (" + std::to_string(files) + " requests)", "start the daemon");
  }
}

}  // namespace

std::string enqueue(const std::string& socket, std::string_view message) {
  const std::string path = parent(socket) == "/" ? "/queue" : parent(socket) + "/queue";
  makeFolder(path);
  openFolder(parent(socket), 0);
  const Fd folder = openFolder(path, O_NOFOLLOW);
  checkRoom(path, folder.get());

  timespec now = {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  char name[64];
  std::snprintf(name, sizeof name, "%011lld%09ld-%d.del", static_cast<long long>(now.tv_sec),
                now.tv_nsec, static_cast<int>(::getpid()));
  const std::string file = path + "/" + name;
  const std::string unfinished = std::string(".tmp-") + name;
  {
    const Fd fd(::openat(folder.get(), unfinished.c_str(),
                         O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (fd.get() < 0) failErrno(file);
    if (!writeAll(fd.get(), message) || ::fsync(fd.get()) != 0 ||
        ::renameat(folder.get(), unfinished.c_str(), folder.get(), name) != 0) {
      const int error = errno;
      ::unlinkat(folder.get(), unfinished.c_str(), 0);
      errno = error;
      failErrno(file);
    }
  }
  if (::fsync(folder.get()) != 0) {
    const int error = errno;
    ::unlinkat(folder.get(), name, 0);
    errno = error;
    failErrno(path);
  }
  return file;
}

}  // namespace hawser
