// Empties the table of connections of the network namespace that it runs in.
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>

#include "os.h"

namespace {

using namespace bench;

/// IPCTNL_MSG_CT_DELETE without a tuple means all of them.
void run() {
  const int fd =
      check(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER), "netlink socket");
  struct {
    nlmsghdr head;
    nfgenmsg family;
  } request{.head = {.nlmsg_len = sizeof request,
                     .nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE,
                     .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
                     .nlmsg_seq = 1,
                     .nlmsg_pid = 0},
            .family = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = 0}};
  check(send(fd, &request, sizeof request, 0), "emptying the table of connections");
  struct {
    nlmsghdr head;
    nlmsgerr error;
  } answer{};
  check(recv(fd, &answer, sizeof answer, 0), "emptying the table of connections");
  if (answer.head.nlmsg_type != NLMSG_ERROR || answer.error.error != 0) {
    fail("emptying the table of connections", -answer.error.error);
  }
}

}  // namespace

int main() {
  try {
    run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "forget: %s\n", error.what());
    return 1;
  }
}
