package main

import "time"

// bootstrapCmd is a node that others start from. It joins no room.
type bootstrapCmd struct {
	homeFlags
	Network string        `placeholder:"NAME" help:"Network to serve (default: the one in the settings, else lan)."`
	Listen  []string      `placeholder:"ADDR" sep:"none" help:"Multiaddr to listen on (default: port 7654, UDP and TCP, on all addresses); may be repeated."`
	Peer    []string      `placeholder:"ADDR" sep:"none" help:"Another bootstrap node: a multiaddr with /p2p/, or a file with one on each line; may be repeated."`
	MDNS    string        `name:"mdns" default:"auto" enum:"auto,on,off" help:"Look for nodes on the local network: on or off (default: on for the network lan alone)."`
	For     time.Duration `placeholder:"D" help:"End after D."`
	Wait    time.Duration `placeholder:"D" help:"Give up with exit code 3 if no other node is met within D, such as 30s."`
	policyFlags
	jsonFlag
}

func (c *bootstrapCmd) Run(a *app) (err error) {
	t := &talk{
		app: a, home: &c.homeFlags, json: c.JSON, bootstrap: true,
		network: &networkFlags{
			Network: c.Network, Listen: c.Listen, Peer: c.Peer, MDNS: c.MDNS, Wait: c.Wait, Transport: "auto", policyFlags: c.policyFlags,
		},
		voice: &voiceFlags{For: c.For},
	}
	if err := t.check(); err != nil {
		return t.fail(err)
	}
	return t.fail(t.run())
}
