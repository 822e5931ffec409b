package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"teahouse/node"
)

// bootstrapPort is where bootstrap nodes listen by default: contract.
const bootstrapPort = 7654

// maxPeers and maxPeerFile bound a list of --peer.
const (
	maxPeers    = 256
	maxPeerFile = 64 << 10
)

// readPeers makes multiaddrs of what --peer was given: multiaddrs, or files
// of them, one a line, with # for comments.
func readPeers(given []string) ([]string, error) {
	var out []string
	for _, item := range given {
		if isMultiaddr(item) {
			out = append(out, item)
			continue
		}
		lines, err := peerFile(item)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	if len(out) > maxPeers {
		return nil, usage("--peer: %d addresses are too many, give at most %d", len(out), maxPeers)
	}
	for _, addr := range out {
		if err := checkPeer(addr); err != nil {
			return nil, usage("--peer: %v", err)
		}
	}
	return out, nil
}

func isMultiaddr(s string) bool {
	for _, prefix := range []string{"/ip4/", "/ip6/", "/dns", "/p2p/", "/unix/"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

func peerFile(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, usage("--peer %q is neither a multiaddr, such as /ip4/192.0.2.7/udp/7654/quic-v1/p2p/12D3..., nor a file that is there", path)
	}
	if !info.Mode().IsRegular() || info.Size() > maxPeerFile {
		return nil, usage("--peer %q is no file of multiaddrs: give one with a multiaddr on each line", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usage("--peer %q cannot be read (%v): check its permissions", path, err)
	}
	var out []string
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := checkPeer(line); err != nil {
			return nil, usage("--peer %q, line %d: %v", path, i+1, err)
		}
		out = append(out, line)
	}
	if len(out) == 0 {
		return nil, usage("--peer %q has no multiaddr in it: give one on each line", path)
	}
	return out, nil
}

// listenAddrs are the addresses to listen on: as asked for, else on all IPv4
// and IPv6 addresses at the default port.
func (h *house) listenAddrs(given []string, bootstrap bool) ([]string, error) {
	for _, addr := range given {
		if err := tryListen(addr); err != nil {
			return nil, err
		}
	}
	if len(given) > 0 {
		return given, nil
	}
	port := bootstrapPort
	if !bootstrap {
		var err error
		if port, err = h.home.Port(freePort); err != nil {
			return nil, err
		}
	}
	if err := tryAll(port); err != nil {
		if bootstrap || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, wrap(err, exitOther, "port", "port %d is taken by another program: end that one, or choose addresses with --listen", port)
		}
		// People need to be reached, not to be reached there.
		h.log.Warn("the port of this home is taken by another program, taking a free one this time", "port", port)
		if port, err = freePort(); err != nil {
			return nil, fmt.Errorf("choose a port: %w", err)
		}
	}
	return node.DefaultListen(port), nil
}

// tryAll tells whether a port is free on all addresses of this machine.
func tryAll(port int) error {
	if err := tryPort(netip.IPv4Unspecified(), port, "tcp4", "udp4"); err != nil || !node.HasIPv6() {
		return err
	}
	return tryPort(netip.IPv6Unspecified(), port, "tcp6", "udp6")
}

// freePort finds a port that is free for UDP and TCP.
func freePort() (int, error) {
	var last error
	for range 32 {
		l, err := net.ListenTCP("tcp4", nil)
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return 0, err
		}
		if last = tryAll(port); last == nil {
			return port, nil
		}
	}
	return 0, last
}

// tryListen says in a sentence why a --listen cannot be: libp2p's own errors
// name neither the reason nor the remedy.
func tryListen(addr string) error {
	if err := checkListen(addr); err != nil {
		return usage("--listen: %v", err)
	}
	parts := strings.Split(addr, "/") // as checkListen has found them
	port, _ := strconv.Atoi(parts[4])
	family := strings.TrimPrefix(parts[1], "ip")
	err := tryPort(netip.MustParseAddr(parts[2]), port, parts[3]+family)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return wrap(err, exitOther, "port", "--listen %s: the port is taken by another program: end that one, or choose another port", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return wrap(err, exitOther, "port", "--listen %s: this machine does not have the address %s: give one that it has, or 0.0.0.0 for all", addr, parts[2])
	case errors.Is(err, fs.ErrPermission):
		return wrap(err, exitOther, "port", "--listen %s: you may not use port %d: choose one above 1023", addr, port)
	case err != nil:
		return wrap(err, exitOther, "port", "--listen %s: %v: choose another address", addr, err)
	}
	return nil
}

// tryPort tells whether a port is free, for networks as package net calls
// them. Who takes it between this and the use
// of it is seen by the node.
func tryPort(ip netip.Addr, port int, transports ...string) error {
	for _, transport := range transports {
		var l io.Closer
		var err error
		at := netip.AddrPortFrom(ip, uint16(port))
		if strings.HasPrefix(transport, "tcp") {
			l, err = net.ListenTCP(transport, net.TCPAddrFromAddrPort(at))
		} else {
			l, err = net.ListenUDP(transport, net.UDPAddrFromAddrPort(at))
		}
		if err != nil {
			return err
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}
