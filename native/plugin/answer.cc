#include "answer.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "io.h"
#include "json.h"

namespace hawser {

int versionIndex(std::string_view version) {
  int index = 0;
  for (const std::string_view known : kVersions) {
    if (known == version) return index;
    ++index;
  }
  return -1;
}

std::string versionList(std::string_view quote, std::string_view between) {
  std::string list;
  for (const std::string_view version : kVersions) {
    if (!list.empty()) list += between;
    list.append(quote).append(version).append(quote);
  }
  return list;
}

int print(std::string_view text, int code) {
  if (writeAll(STDOUT_FILENO, text)) return code;
  note(std::string("stdout: ") + std::strerror(errno));
  return 1;
}

void note(std::string_view line) {
  std::string text = "hawser: ";
  text.append(line).append("\n");
  (void)writeAll(STDERR_FILENO, text);
}

int printError(std::string_view cniVersion, const Failure& failure) {
  std::string text = "{\"cniVersion\":";
  appendQuoted(text, cniVersion);
  text.append(",\"code\":").append(std::to_string(failure.code)).append(",\"msg\":");
  appendQuoted(text, failure.message);
  text += ",\"details\":";
  appendQuoted(text, failure.details);
  text += "}\n";
  return print(text, 1);
}

int printVersions(std::string_view cniVersion) {
  std::string text = "{\"cniVersion\":";
  appendQuoted(text, cniVersion);
  text.append(",\"supportedVersions\":[").append(versionList("\"", ",")).append("]}\n");
  return print(text, 0);
}

int printAbout() {
  note("the CNI plugin of the hawser daemon; CNI protocol versions supported: " +
       versionList("", ", "));
  return 0;
}

}  // namespace hawser
