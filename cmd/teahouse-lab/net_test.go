//go:build lab && linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// What net says is there, is there: each host can be entered, and has its
// address. At the end nothing is left.
func TestNet(t *testing.T) {
	if os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Skip(lab.ErrNotRoot)
	}
	for _, topology := range lab.Topologies() {
		t.Run(topology, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			said, stdout := io.Pipe()
			ended := make(chan error, 1)
			go func() {
				c := netCommand{Topology: topology, JSON: true}
				ended <- c.run(ctx, stdout, io.Discard)
			}()
			var ready netReady
			if err := json.NewDecoder(said).Decode(&ready); err != nil {
				t.Fatalf("%v; %v", err, <-ended)
			}
			if ready.Event != "ready" || len(ready.Hosts) < 5 {
				t.Errorf("said %+v", ready)
			}
			for _, h := range ready.Hosts {
				out, err := exec.CommandContext(ctx, "ip", "netns", "exec", h.Namespace, "ip", "-brief", "addr").CombinedOutput()
				if err != nil || !strings.Contains(string(out), " "+h.Address+"/") || h.IPv6 != "" && !strings.Contains(string(out), " "+h.IPv6+"/") {
					t.Errorf("%s: %v, %s", h.Name, err, out)
				}
			}
			cancel() // as a signal does
			if err := <-ended; err != nil {
				t.Error(err)
			}
			names, err := exec.CommandContext(t.Context(), "ip", "netns", "list").Output()
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range ready.Hosts {
				if bytes.Contains(names, []byte(h.Namespace)) {
					t.Errorf("%s is left", h.Namespace)
				}
			}
		})
	}
	// It ends by itself, too, and the table has all that can be typed.
	var table bytes.Buffer
	c := netCommand{Topology: "two-homes", For: time.Millisecond}
	if err := c.run(t.Context(), &table, io.Discard); err != nil {
		t.Error(err)
	}
	if n := strings.Count(table.String(), "ip netns exec thlab"); n != 5 {
		t.Errorf("%d of 5 hosts in\n%s", n, &table)
	}
}

func TestNetRefuses(t *testing.T) {
	for _, c := range []netCommand{{Topology: "no-such-topology"}, {Topology: "two-homes", For: -time.Second}} {
		if err := c.run(t.Context(), io.Discard, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
