#!/usr/bin/env python3
"""Traffic between two namespaces: ping, TCP and UDP streams, files checked by SHA-256.

A receiver prints {"port": N} when it listens, every command prints one JSON line when it is done.

  ping ADDRESS [--count N] [--size BYTES] [--source ADDRESS]
  tcp-receive [--bind ADDRESS]               tcp-send ADDRESS PORT (--seconds S | --bytes N)
  udp-receive [--bind ADDRESS]               udp-send ADDRESS PORT (--seconds S | --bytes N) [--size BYTES]
                                                      [--rate BITS]

With --bytes the data are random and both sides print their SHA-256; over UDP what is lost is sent
again until everything has arrived. With --seconds the stream is timed; --rate brakes it, in bits of
payload a second, in bursts of a millisecond or of one datagram.
"""
import argparse
import hashlib
import json
import os
import select
import socket
import struct
import sys
import time

# linux/socket.h; not in the socket module.
SO_RCVBUFFORCE = 33
CHUNK = 1 << 20
WINDOW = 64


def say(**facts):
    print(json.dumps(facts), flush=True)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def internet_checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def ping(args):
    """ICMP echo by a raw socket: the kernel computes the checksum of ICMPv6 itself."""
    ipv6 = ":" in args.address
    proto = socket.IPPROTO_ICMPV6 if ipv6 else socket.IPPROTO_ICMP
    request, answer = (128, 129) if ipv6 else (8, 0)
    sock = socket.socket(family_of(args.address), socket.SOCK_RAW, proto)
    if args.source:
        sock.bind((args.source, 0))
    if args.dont_fragment:
        # IP_MTU_DISCOVER = IP_PMTUDISC_DO; IPV6_MTU_DISCOVER likewise (linux/in.h, linux/in6.h).
        if ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, 23, 2)
        else:
            sock.setsockopt(socket.IPPROTO_IP, 10, 2)
    if args.ttl:
        if ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, args.ttl)
        else:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, args.ttl)
    ident = os.getpid() & 0xFFFF
    times, errors = [], []
    for seq in range(args.count):
        payload = os.urandom(args.size)
        head = struct.pack("!BBHHH", request, 0, 0, ident, seq)
        if not ipv6:
            head = struct.pack("!BBHHH", request, 0, internet_checksum(head + payload), ident, seq)
        started = time.monotonic()
        try:
            sock.sendto(head + payload, (args.address, 0))
        except OSError as error:
            errors.append(error.strerror)
            continue
        deadline = started + args.timeout
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([sock], [], [], left)[0]:
                break
            data, peer = sock.recvfrom(70000)
            if not ipv6:
                data = data[(data[0] & 15) * 4:]
            kind, code = data[0], data[1]
            if kind == answer and data[4:8] == struct.pack("!HH", ident, seq):
                if data[8:] == payload:
                    times.append((time.monotonic() - started) * 1e6)
                else:
                    errors.append("payload differs")
                break
            if kind in ((1, 2, 3, 4) if ipv6 else (3, 11, 12)):
                mtu = struct.unpack("!I", data[4:8])[0]
                errors.append({"type": kind, "code": code, "from": peer[0], "mtu": mtu})
                break
    times.sort()
    say(sent=args.count, received=len(times), errors=errors,
        medianUs=times[len(times) // 2] if times else None)
    return 0 if len(times) == args.count else 1


def tcp_receive(args):
    server = socket.create_server((args.bind, 0), family=family_of(args.bind))
    say(port=server.getsockname()[1])
    server.settimeout(args.timeout)
    client, _ = server.accept()
    client.settimeout(args.timeout)
    hashed = client.recv(1, socket.MSG_WAITALL) == b"h"
    digest, total, buffer, started = hashlib.sha256(), 0, bytearray(CHUNK), time.monotonic()
    while n := client.recv_into(buffer):
        total += n
        if hashed:
            digest.update(memoryview(buffer)[:n])
    seconds = time.monotonic() - started
    client.sendall(b"k")
    say(bytes=total, seconds=seconds, sha256=digest.hexdigest() if hashed else None)
    return 0


def tcp_send(args):
    sock = socket.create_connection((args.address, args.port), timeout=args.timeout)
    block, digest, total = os.urandom(CHUNK), hashlib.sha256(), 0
    sock.sendall(b"h" if args.bytes else b"t")
    started = time.monotonic()
    if args.bytes:
        while total < args.bytes:
            block = os.urandom(min(CHUNK, args.bytes - total))
            digest.update(block)
            sock.sendall(block)
            total += len(block)
    else:
        while time.monotonic() - started < args.seconds:
            sock.sendall(block)
            total += len(block)
    sock.shutdown(socket.SHUT_WR)
    done = sock.recv(1) == b"k"
    say(bytes=total, seconds=time.monotonic() - started, confirmed=done,
        sha256=digest.hexdigest() if args.bytes else None)
    return 0 if done else 1


def udp_receive(args):
    """Datagrams: u32 sequence, payload. Sequence 2^32-1 asks for a report, 2^32-2 ends a timed stream."""
    sock = socket.socket(family_of(args.bind), socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    sock.bind((args.bind, 0))
    sock.settimeout(args.timeout)
    say(port=sock.getsockname()[1])
    parts, packets, total, first, last, count = {}, 0, 0, None, None, None
    while True:
        data, peer = sock.recvfrom(65535)
        seq = struct.unpack_from("!I", data)[0]
        if seq == 0xFFFFFFFF:
            count = struct.unpack_from("!I", data, 4)[0]
            missing = [k for k in range(count) if k not in parts][:256]
            sock.sendto(struct.pack("!%dI" % len(missing), *missing) if missing else b"done", peer)
            if not missing and data[8:9] == b"\1":
                break
        elif seq == 0xFFFFFFFE:
            sock.sendto(b"done", peer)
            break
        else:
            last = time.monotonic()
            first = first or last
            packets += 1
            total += len(data) - 4
            if len(data) > 4 and data[4:5] == b"h":
                parts[seq] = data[5:]
    digest = None
    if count is not None:
        digest = hashlib.sha256(b"".join(parts[k] for k in range(count))).hexdigest()
    say(packets=packets, bytes=total, seconds=(last - first) if first else 0, sha256=digest)
    return 0


def ask(sock, address, message, tries=50):
    """Sends until something comes back."""
    for _ in range(tries):
        sock.sendto(message, address)
        if select.select([sock], [], [], 0.2)[0]:
            return sock.recv(65535)
    raise SystemExit("no answer from the receiver")


def udp_send(args):
    sock = socket.socket(family_of(args.address), socket.SOCK_DGRAM)
    address = (args.address, args.port)
    started = time.monotonic()
    if args.bytes:
        data = os.urandom(args.bytes)
        size = args.size - 5
        parts = [data[at:at + size] for at in range(0, len(data), size)]
        sent = 0
        for begin in range(0, len(parts), WINDOW):
            # Paced by the receiver: a window, its report, what is missing again.
            end = min(begin + WINDOW, len(parts))
            todo = range(begin, end)
            while todo:
                for k in todo:
                    sock.sendto(struct.pack("!I", k) + b"h" + parts[k], address)
                    sent += 1
                final = end == len(parts)
                answer = ask(sock, address, struct.pack("!II?", 0xFFFFFFFF, end, final))
                todo = () if answer == b"done" else struct.unpack("!%dI" % (len(answer) // 4), answer)
        say(packets=sent, bytes=len(data), seconds=time.monotonic() - started,
            sha256=hashlib.sha256(data).hexdigest())
    else:
        payload, sent = os.urandom(args.size - 5), 0
        each = (args.size - 4) * 8
        while (passed := time.monotonic() - started) < args.seconds:
            due = WINDOW
            if args.rate:
                # What is late is sent in pieces: a sender that lost its core does not make up for it at once.
                due = min(int(passed * args.rate / each) + 1 - sent, WINDOW)
                if due <= 0:
                    time.sleep(max(0.001, each / args.rate / 2))
                    continue
            for _ in range(due):
                try:
                    sock.sendto(struct.pack("!I", sent) + b"t" + payload, address)
                    sent += 1
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno != 105:  # ENOBUFS: the device queue is full
                        raise
        seconds = time.monotonic() - started
        ask(sock, address, struct.pack("!I", 0xFFFFFFFE))
        say(packets=sent, bytes=sent * (args.size - 4), seconds=seconds, sha256=None)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(name, run, *positional):
        sub = commands.add_parser(name)
        sub.set_defaults(run=run)
        sub.add_argument("--timeout", type=float, default=20)
        for each in positional:
            sub.add_argument(each, type=int if each == "port" else str)
        return sub

    sub = command("ping", ping, "address")
    sub.add_argument("--count", type=int, default=3)
    sub.add_argument("--size", type=int, default=56)
    sub.add_argument("--ttl", type=int, default=0)
    sub.add_argument("--dont-fragment", action="store_true")
    sub.add_argument("--source")
    for name, run in (("tcp-receive", tcp_receive), ("udp-receive", udp_receive)):
        command(name, run).add_argument("--bind", default="0.0.0.0")
    for name, run in (("tcp-send", tcp_send), ("udp-send", udp_send)):
        sub = command(name, run, "address", "port")
        sub.add_argument("--seconds", type=float, default=1)
        sub.add_argument("--bytes", type=int, default=0)
        sub.add_argument("--size", type=int, default=1200)
        sub.add_argument("--rate", type=float, default=0)
    args = parser.parse_args()
    sys.exit(args.run(args))


if __name__ == "__main__":
    main()
