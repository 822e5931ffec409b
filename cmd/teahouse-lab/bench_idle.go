package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The idle benchmark's times.
const (
	idleSettle  = 15 * time.Second // start-up work and its garbage are over
	idleMeasure = 60 * time.Second
)

// benchIdle puts a node that is in no room and a member alone in a room, both
// connected to a bootstrap node and without devices, beside a bare libp2p host
// connected to another one. The ratio holds across machines; its budget comes
// from 45 MB and 0.5 % of a core where the bare host took 29 MB and 0.05 %.
func benchIdle(ctx context.Context, b *bench) (figures []figure, err error) {
	home, err := os.MkdirTemp("", "teahouse-lab-")
	if err != nil {
		return nil, fmt.Errorf("make a home: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	var running group
	defer func() { err = errors.Join(err, running.stop()) }()

	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	first, err := running.start(ctx, "the first bare host", self, "bare-host")
	if err != nil {
		return nil, err
	}
	address, err := first.address(within)
	if err != nil {
		return nil, err
	}
	bare, err := running.start(ctx, "the bare host", self, "bare-host", "--peer", address)
	if err != nil {
		return nil, err
	}
	if _, err := bare.wait(within, "listening", ""); err != nil {
		return nil, err
	}
	network := newNetwork()
	bootstrap, err := running.start(ctx, "the bootstrap node", b.teahouse, "bootstrap", "--json",
		"--network", network, "--home", filepath.Join(home, "bootstrap"), "--listen", loopback)
	if err != nil {
		return nil, err
	}
	if address, err = bootstrap.address(within); err != nil {
		return nil, err
	}
	flags := []string{"--json", "--network", network, "--listen", loopback, "--peer", address}
	node, err := running.start(ctx, "the idle node", b.teahouse, append([]string{"run", "--home", filepath.Join(home, "node")}, flags...)...)
	if err != nil {
		return nil, err
	}
	if _, err := node.wait(within, "listening", ""); err != nil {
		return nil, err
	}
	alone, err := running.start(ctx, "the member", b.teahouse, append([]string{"join", "idle", "--mic", "none", "--speaker", "none", "--home", filepath.Join(home, "alone")}, flags...)...)
	if err != nil {
		return nil, err
	}
	if _, err := alone.wait(within, "joined", ""); err != nil {
		return nil, err
	}

	if err := pause(ctx, b.lasting(idleSettle)); err != nil {
		return nil, err
	}
	uses, err := usesDuring(ctx, b.lasting(idleMeasure), bare, node, alone, bootstrap)
	if err != nil {
		return nil, err
	}
	bareUse, nodeUse, aloneUse, bootstrapUse := uses[0], uses[1], uses[2], uses[3]
	return []figure{
		{Name: "bare-memory", What: "a bare libp2p host with DHT and gossipsub, memory", Value: bareUse.megabytes, Unit: "MB"},
		{Name: "bare-cpu", What: "the same, CPU", Value: bareUse.percent, Unit: "% of a core"},
		figure{Name: "memory", What: "an idle node, in no room, memory", Value: nodeUse.megabytes, Unit: "MB"}.atMost(45),
		figure{Name: "cpu", What: "the same, CPU", Value: nodeUse.percent, Unit: "% of a core"}.atMost(0.5),
		figure{Name: "memory-ratio", What: "idle node to bare host, memory", Value: nodeUse.megabytes / bareUse.megabytes, Unit: "×"}.atMost(45. / 29),
		figure{Name: "cpu-ratio", What: "idle node to bare host, CPU", Value: nodeUse.percent / bareUse.percent, Unit: "×"}.atMost(0.5 / 0.05),
		{Name: "alone-memory", What: "a member alone in a room, without devices, memory", Value: aloneUse.megabytes, Unit: "MB"},
		{Name: "alone-cpu", What: "the same, CPU", Value: aloneUse.percent, Unit: "% of a core"},
		{Name: "bootstrap-memory", What: "a bootstrap node that these two use, memory", Value: bootstrapUse.megabytes, Unit: "MB"},
		{Name: "bootstrap-cpu", What: "the same, CPU", Value: bootstrapUse.percent, Unit: "% of a core"},
	}, nil
}

const loopback = "/ip4/127.0.0.1/udp/0/quic-v1"

// address waits until p listens and gives its first QUIC address on loopback.
func (p *program) address(ctx context.Context) (string, error) {
	e, err := p.wait(ctx, "listening", "")
	if err != nil {
		return "", err
	}
	for _, a := range e.Addrs {
		if strings.HasPrefix(a, "/ip4/127.0.0.1/udp/") && strings.Contains(a, "/quic-v1/p2p/") {
			return a, nil
		}
	}
	return "", fmt.Errorf("%s listens nowhere on loopback: %v", p.name, e.Addrs)
}

// load is what a process used over some time.
type load struct {
	percent   float64 // of one core
	megabytes float64 // resident at the end, in units of 10^6 bytes
}

// usesDuring watches processes for d.
func usesDuring(ctx context.Context, d time.Duration, programs ...*program) ([]load, error) {
	before := make([]processUse, len(programs))
	loads := make([]load, len(programs))
	started := time.Now()
	for i, p := range programs {
		var err error
		if before[i], err = p.use(); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if err := pause(ctx, d); err != nil {
		return nil, err
	}
	took := time.Since(started)
	for i, p := range programs {
		after, err := p.use()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		loads[i] = load{
			percent:   100 * float64(after.cpu-before[i].cpu) / float64(took),
			megabytes: float64(after.rss) / 1e6,
		}
	}
	return loads, nil
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
