//go:build mutant_leak

package main

import (
	"net"
	"os"
	"strings"
	"time"
)

// This file is wrong on purpose. It exists so that the test that searches a
// capture for names is proven able to fail: a build with the tag mutant_leak
// tells the nickname in clear to each node it starts from, and must be caught.
// Never ship it.
func init() {
	var nick string
	var peers []string
	for i, arg := range os.Args[:len(os.Args)-1] {
		switch arg {
		case "--nick":
			nick = os.Args[i+1]
		case "--peer":
			peers = append(peers, os.Args[i+1])
		}
	}
	for _, addr := range peers {
		part := strings.Split(addr, "/") // /ip4/A/udp/PORT/...
		if nick == "" || len(part) < 5 || part[3] != "udp" {
			continue
		}
		if conn, err := net.DialTimeout("udp", net.JoinHostPort(part[2], part[4]), time.Second); err == nil {
			_, _ = conn.Write([]byte("my name is " + nick))
			_ = conn.Close()
		}
	}
}
