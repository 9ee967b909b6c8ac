#!/usr/bin/env python3
"""Frames and packets as they are, without the kernel's help.

  send DEVICE HEX...          out of a device: frames of Ethernet, packets of a TUN
  udp ADDRESS PORT HEX...     datagrams, from a port of the kernel's choice
  hear DEVICE                 prints {"ready": true}, then what comes in by the device, in hexadecimal
  take ADDRESS PORT           prints {"ready": true}, then each datagram that comes, in hexadecimal

`send` and `udp` print {"sent": N}.
"""
import json
import socket
import sys

ETH_P_ALL = 3
KINDS = {4: 0x0800, 6: 0x86DD}
ARPHRD_ETHER = 1
PACKET_OUTGOING = 4
LONGEST = 65536


def say(facts):
    print(json.dumps(facts), flush=True)


def send(device, *packets):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.bind((device, 0))
        ethernet = out.getsockname()[3] == ARPHRD_ETHER
        for packet in packets:
            data = bytes.fromhex(packet)
            # Of a TUN's packet the socket says what it is.
            kind = int.from_bytes(data[12:14], "big") if ethernet else KINDS[data[0] >> 4]
            out.sendto(data, (device, kind))
    say({"sent": len(packets)})


def udp(address, port, *packets):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as out:
        for packet in packets:
            out.sendto(bytes.fromhex(packet), (address, int(port)))
    say({"sent": len(packets)})


def hear(device):
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    ear.bind((device, ETH_P_ALL))
    say({"ready": True})
    while True:
        data, (_, _, direction, _, _) = ear.recvfrom(LONGEST)
        if direction != PACKET_OUTGOING:
            print(data.hex(), flush=True)


def take(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    ear = socket.socket(family, socket.SOCK_DGRAM)
    ear.bind((address, int(port)))
    say({"ready": True})
    while True:
        print(ear.recv(LONGEST).hex(), flush=True)


if __name__ == "__main__":
    {"send": send, "udp": udp, "hear": hear, "take": take}[sys.argv[1]](*sys.argv[2:])
