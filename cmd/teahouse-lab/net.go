package main

import (
	"bytes"
	"fmt"
	"text/tabwriter"
	"time"
)

// netCommand makes a routed internet in network namespaces, for as long as one
// wants to try something on it by hand.
type netCommand struct {
	Topology string        `arg:"" help:"A topology file, or one that comes along: two-homes, village. What is in it: go doc teahouse/internal/lab Plan."`
	For      time.Duration `help:"End after this long; otherwise at a signal." placeholder:"D"`
	JSON     bool          `help:"One JSON object on standard output instead of a table." name:"json"`
}

// netHost is a row of what was made. Fields may be added, never renamed.
type netHost struct {
	Name      string `json:"name"`
	What      string `json:"what"` // its statement in the topology
	Address   string `json:"address"`
	IPv6      string `json:"ipv6,omitempty"`
	Namespace string `json:"namespace"`
}

// netReady is what --json prints once everything is there.
type netReady struct {
	Event string    `json:"event"` // "ready"
	Hosts []netHost `json:"hosts"`
}

// table is what was made for a person at a terminal.
func (r netReady) table() string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "what\taddress\tIPv6\tto run a command there")
	for _, h := range r.Hosts {
		fmt.Fprintf(w, "%s\t%s\t%s\tip netns exec %s COMMAND\n", h.What, h.Address, orNone(h.IPv6), h.Namespace)
	}
	_ = w.Flush() // a bytes.Buffer takes everything
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
