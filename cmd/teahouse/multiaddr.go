package main

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"teahouse/internal/mesh"
)

// The few multiaddrs that people type, checked here so that the sentence
// about a wrong one says what is wrong with it:
//
//	/ip4/ADDRESS/udp/PORT/quic-v1[/p2p/PEER]
//	/ip4/ADDRESS/tcp/PORT[/p2p/PEER]          and the same with /ip6

const addrForm = "/ip4/192.0.2.7/udp/7654/quic-v1 or /ip4/192.0.2.7/tcp/7654"

// checkPeer is nil if addr names a node to start from.
func checkPeer(addr string) error {
	bare, id, found := strings.Cut(addr, "/p2p/")
	if !found {
		return fmt.Errorf("%q does not say whose address it is: /p2p/PEER is missing at its end", addr)
	}
	if _, err := parsePeerText(id); err != nil {
		return fmt.Errorf("%q does not end in a peer id: copy it again as the other node printed it", addr)
	}
	return checkAddr(bare, false)
}

// checkListen is nil if addr can be listened on, as far as its text tells.
func checkListen(addr string) error {
	if strings.Contains(addr, "/p2p/") {
		return fmt.Errorf("%q: an address to listen on has no /p2p/", addr)
	}
	return checkAddr(addr, true)
}

func checkAddr(addr string, anyPort bool) error {
	parts := strings.Split(addr, "/")
	if len(addr) > 256 || len(parts) < 2 || parts[0] != "" {
		return fmt.Errorf("%.80q is no multiaddr: one looks like %s", addr, addrForm)
	}
	if strings.HasPrefix(parts[1], "dns") {
		return fmt.Errorf("%q: names are not looked up, because a name server would learn whom you talk to; give the IP address", addr)
	}
	ok := (len(parts) == 5 && parts[3] == "tcp") || (len(parts) == 6 && parts[3] == "udp" && parts[5] == "quic-v1")
	if !ok || parts[1] != "ip4" && parts[1] != "ip6" {
		return fmt.Errorf("%q is no address that nodes use: they look like %s", addr, addrForm)
	}
	ip, err := netip.ParseAddr(parts[2])
	if err != nil || ip.Is4() != (parts[1] == "ip4") || ip.Zone() != "" {
		return fmt.Errorf("%q: %q is no %s address", addr, parts[2], map[string]string{"ip4": "IPv4", "ip6": "IPv6"}[parts[1]])
	}
	port, err := strconv.ParseUint(parts[4], 10, 16)
	if err != nil || port == 0 && !anyPort {
		return fmt.Errorf("%q: %q is no port, which is a number up to 65535", addr, parts[4])
	}
	return nil
}

// base58 is the alphabet of Bitcoin, in which libp2p writes peer ids.
const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// peerText is a peer id as libp2p writes it: 12D3Koo...
func peerText(p mesh.PeerID) string {
	n := new(big.Int).SetBytes([]byte(p))
	var out []byte
	for digit, radix := new(big.Int), big.NewInt(58); n.Sign() > 0; {
		n.DivMod(n, radix, digit)
		out = append(out, base58[digit.Int64()])
	}
	for i := 0; i < len(p) && p[i] == 0; i++ {
		out = append(out, base58[0])
	}
	slices.Reverse(out)
	return string(out)
}

// parsePeerText reads what peerText writes.
func parsePeerText(text string) (mesh.PeerID, error) {
	if len(text) == 0 || len(text) > 64 {
		return "", errors.New("no peer id")
	}
	n := new(big.Int)
	zeros := 0
	for i, c := range []byte(text) {
		digit := strings.IndexByte(base58, c)
		if digit < 0 {
			return "", errors.New("no peer id")
		}
		if digit == 0 && zeros == i {
			zeros++
		}
		n.Add(n.Mul(n, big.NewInt(58)), big.NewInt(int64(digit)))
	}
	return mesh.ParsePeerID(append(make([]byte, zeros), n.Bytes()...))
}
