package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/node"
	"teahouse/room"
)

// place is a network and an open room on it, with the slow derivations done.
type place struct {
	name    string // of the network, for processes
	topic   string
	network node.Network
	secret  room.Secret
}

func newPlace() (place, error) {
	p := place{name: newNetwork(), topic: "tea"}
	var err error
	if p.network, err = node.AdHocNetwork(p.name); err != nil {
		return p, err
	}
	p.secret, err = room.OpenSecret(p.topic, p.network.Secret)
	return p, err
}

// node starts a node of this place on loopback that knows these peers.
func (p place) node(ctx context.Context, bootstrap bool, peers ...string) (*node.Node, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a host key: %w", err)
	}
	return node.New(ctx, node.Config{
		HostKey: key, Network: p.network, Bootstrap: bootstrap, Peers: peers,
		Listen: []string{loopback, "/ip4/127.0.0.1/tcp/0"},
	})
}

// addressOf is where a node of this process can be reached by QUIC.
func addressOf(n *node.Node) (string, error) {
	self := n.Self()
	for _, a := range self.Addrs {
		if strings.HasPrefix(string(a), "/ip4/127.0.0.1/udp/") {
			return string(a) + "/p2p/" + peer.ID(self.ID).String(), nil
		}
	}
	return "", errors.New("the node does not listen on loopback")
}
