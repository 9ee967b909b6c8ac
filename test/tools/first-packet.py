#!/usr/bin/env python3
"""A datagram that a pod sends the moment its ADD has returned.

  first-packet.py NETNS PLUGIN PORT MARK ADDRESS...

NETNS is the pod's. The CNI variables, stdin and the network namespace are the plugin's. MARK (text) goes to
PORT of each address, once. Prints what the plugin printed; exits as it did.
"""
import ctypes
import os
import socket
import subprocess
import sys

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def enter(fd):
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


netns, plugin, port, mark, *addresses = sys.argv[1:]
home = os.open("/proc/self/ns/net", os.O_RDONLY)
pod = os.open(netns, os.O_RDONLY)
config = sys.stdin.buffer.read()
# A socket belongs to the namespace that it was made in.
enter(pod)
families = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
sockets = [socket.socket(family, socket.SOCK_DGRAM) for family in families]
enter(home)
done = subprocess.run([plugin], input=config, stdout=subprocess.PIPE)
if done.returncode == 0:
    for out, address in zip(sockets, addresses):
        out.sendto(mark.encode(), (address, int(port)))
sys.stdout.buffer.write(done.stdout)
sys.exit(done.returncode)
