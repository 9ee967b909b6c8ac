// Turns GRO of a device on. On veth that makes the device poll (NAPI), which it must do to take
// frames that have no socket buffer yet; an XDP program on it does the same.
//
//   gro --device D
#include <linux/ethtool.h>
#include <linux/sockios.h>

#include "os.h"

namespace {

using namespace bench;

void run(int argc, char** argv) {
  const std::string device = argument(argc, argv, "--device");
  const int fd = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  ethtool_value value{.cmd = ETHTOOL_SGRO, .data = 1};
  ifreq request{};
  device.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char*>(&value);
  check(ioctl(fd, SIOCETHTOOL, &request), "GRO of " + device);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gro: %s\n", error.what());
    return 1;
  }
}
