package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
)

// bareHostCommand is what any program on libp2p pays for being there: a host
// with QUIC and TCP, a Kademlia DHT of its own and gossipsub with one topic,
// on loopback. An idle node of Teahouse is measured beside it.
type bareHostCommand struct {
	Peer string `help:"Multiaddr with /p2p/ to connect to."`
}

// Run prints a listening event and stays until ctx ends.
func (c *bareHostCommand) Run(ctx context.Context) error {
	host, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"),
		libp2p.NoTransports, libp2p.Transport(libp2pquic.NewTransport), libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.UserAgent("bare"),
	)
	if err != nil {
		return fmt.Errorf("start a bare host: %w", err)
	}
	defer host.Close()
	kademlia, err := dht.New(host, dht.ProtocolPrefix("/teahouse-lab/bare"), dht.Mode(dht.ModeServer), dht.DisableValues())
	if err != nil {
		return fmt.Errorf("start a bare DHT: %w", err)
	}
	defer kademlia.Close()
	gossip, err := pubsub.NewGossipSub(ctx, host)
	if err != nil {
		return fmt.Errorf("start bare gossip: %w", err)
	}
	topic, err := gossip.Join("bare")
	if err != nil {
		return fmt.Errorf("join the bare topic: %w", err)
	}
	defer topic.Close()
	subscription, err := topic.Subscribe()
	if err != nil {
		return fmt.Errorf("join the bare topic: %w", err)
	}
	defer subscription.Cancel()

	if c.Peer != "" {
		info, err := peer.AddrInfoFromString(c.Peer)
		if err != nil {
			return fmt.Errorf("%w: peer %q: %w", errUsage, c.Peer, err)
		}
		if err := host.Connect(ctx, *info); err != nil {
			return fmt.Errorf("connect to the other bare host: %w", err)
		}
	}
	var addrs []string
	for _, a := range host.Addrs() {
		addrs = append(addrs, a.String()+"/p2p/"+host.ID().String())
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"event": "listening", "addrs": addrs}); err != nil {
		return fmt.Errorf("print the addresses: %w", err)
	}
	<-ctx.Done()
	return nil
}
